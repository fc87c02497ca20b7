"""What the fake robot has seen of its commands: for its status line, its summary and tests."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from rt.arrays import Vector


class Stream(msgspec.Struct):
    """The commands of one topic. Times are ns on CLOCK_MONOTONIC; 0: none came."""

    commands: int = 0
    refused: int = 0  # of another length than expected, or not finite: not obeyed
    first_step_deg: float = 0.0  # from the measured pose to the first command, the largest joint's
    largest_step_deg: float = 0.0  # between two commands, the largest joint's
    t_first: int = 0
    t_last: int = 0

    def note(self, command: Vector, before: Vector, now_ns: int) -> None:
        """`command` (n,) rad came; `before` is the one before it, else the measured pose."""
        step_deg = math.degrees(float(np.abs(command - before).max(initial=0.0)))
        if self.commands:
            self.largest_step_deg = max(self.largest_step_deg, step_deg)
        else:
            self.first_step_deg, self.t_first = step_deg, now_ns
        self.commands += 1
        self.t_last = now_ns


class Report(msgspec.Struct):
    """Since the fake robot was started."""

    streams: dict[str, Stream] = {}  # by topic
    reached: int = 0  # scenes in which the hand came to the target
    scenes: int = 0
    faults: tuple[str, ...] = ()  # in force

    @property
    def commands(self) -> int:
        """On the topic that had most: a command may be a message on each of several."""
        return max((stream.commands for stream in self.streams.values()), default=0)

    @property
    def t_last(self) -> int:
        """When the newest command came, ns; 0: none did."""
        return max((stream.t_last for stream in self.streams.values()), default=0)
