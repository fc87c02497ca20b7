"""Judges the commands of one topic as the robot hears them: how far each is from the one before it,
from where the robot was, from the position limits, and how soon it came.

Assumption:
  - The senders' wall clock, by which a command is stamped when it is sent, is not stepped. When it
    arrives would tell nothing: a robot that was stopped hears many at once.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from rt import clock
from rt.arrays import Vector
from rt.robots.fake.report import Stream

SILENCE_NS = clock.NS_PER_S  # after which a sender may begin anew from where the robot is
POSES = 32  # told last: a sender starts from one of them


class Witness:
    """Writes what it sees into a `Stream`."""

    def __init__(self, stream: Stream, lower: Vector, upper: Vector) -> None:
        """`lower`, `upper` (S,) rad: the position limits, infinite where there are none."""
        self._stream = stream
        self._lower, self._upper = lower, upper
        self._poses: deque[Vector] = deque(maxlen=POSES)
        self._last: Vector | None = None
        self._sender = 0
        self._senders: set[int] = set()  # so far
        self._sent: deque[int] = deque(maxlen=2)  # when this sender's last two were, ns

    def told(self, pose: Vector) -> None:
        """The robot publishes that it is at `pose` (S,) rad."""
        self._poses.append(pose.copy())

    def saw(self, command: Vector, pose: Vector, message: Any) -> None:
        """`command` (S,) rad, NaN where it says nothing, came in `message` (of cyclonedds), when
        the robot was at `pose` (S,) rad."""
        info = message.sample_info
        stream, now = self._stream, clock.now_ns()
        if info.publication_handle != self._sender or self._last is None:
            self._sender = info.publication_handle
            stream.returned += self._sender in self._senders
            self._senders.add(self._sender)
            self._sent.clear()
            stream.senders += 1
            stream.first_step_deg = max(stream.first_step_deg, self._from_pose(command, pose))
            stream.t_first = stream.t_first or now
        else:
            self._judge_step(command, self._last, pose, info.source_timestamp)
        beyond = np.maximum(self._lower - command, command - self._upper)
        stream.outside_deg = max(stream.outside_deg, _largest_deg(beyond))
        self._sent.append(info.source_timestamp)
        self._last = command.copy()
        stream.commands += 1
        stream.t_last = now

    def _judge_step(self, command: Vector, last: Vector, pose: Vector, t_sent: int) -> None:
        stream = self._stream
        step_deg = _largest_deg(np.abs(command - last))
        if t_sent - self._sent[-1] > SILENCE_NS:
            step_deg = min(step_deg, self._from_pose(command, pose))
            stream.resumed_step_deg = max(stream.resumed_step_deg, step_deg)
        else:
            stream.largest_step_deg = max(stream.largest_step_deg, step_deg)
        if len(self._sent) == 2:
            three_ms = (t_sent - self._sent[0]) / 1e6
            stream.three_within_ms = min(stream.three_within_ms or three_ms, three_ms)

    def _from_pose(self, command: Vector, pose: Vector) -> float:
        """From the nearest pose that it may have been measured at, degrees."""
        return min(_largest_deg(np.abs(command - told)) for told in (pose, *self._poses))


def _largest_deg(angles: Vector) -> float:
    """The largest of `angles` rad that is positive, degrees; NaN does not count."""
    return math.degrees(max(0.0, float(np.nanmax(angles))))
