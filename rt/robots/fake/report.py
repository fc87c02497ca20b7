"""What the fake robot has seen of its commands: for its status line, its summary and tests."""

from __future__ import annotations

import msgspec


class Stream(msgspec.Struct):
    """The commands of one topic. Times are ns on CLOCK_MONOTONIC; 0: none came.

    A step is the largest joint's.
    """

    commands: int = 0
    refused: int = 0  # of another length than expected, or not finite: not obeyed
    senders: int = 0  # one after the other
    returned: int = 0  # times that one spoke again after another had: two at once
    first_step_deg: float = 0.0  # from the measured pose to a sender's first command, the largest
    largest_step_deg: float = 0.0  # between two commands of a sender
    # After a second of a sender's silence, from the measured pose or the command before.
    resumed_step_deg: float = 0.0
    outside_deg: float = 0.0  # beyond the position limits, the largest
    three_within_ms: float = 0.0  # the shortest time in which a sender sent three; 0: none did
    t_first: int = 0
    t_last: int = 0


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
