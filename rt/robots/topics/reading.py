"""One state topic: takes its newest message, and takes over what it says or refuses it."""

from __future__ import annotations

from typing import Any

from rt.arrays import Vector
from rt.errors import RobotError
from rt.robots.bus import Subscription
from rt.robots.topics.wiring import Wire

RESTART_NS = 1_000_000_000  # a stamp that goes back so far is a sender with a new clock


class Reading:
    """The joints that one topic measures."""

    def __init__(self, wire: Wire, subscription: Subscription) -> None:
        self.wire = wire
        self.subscription = subscription
        self.t_published = 0  # of the newest good message, ns; 0: none yet
        self.late = f"{wire.topic}: nothing has come yet"
        self._refused = 0  # messages, since the start
        self._stamp = 0  # the newest good message's header, ns of the sender's clock

    def update(self, position: Vector) -> None:
        """Write the newest message's joints to `position` (S,), unless it must be refused."""
        try:
            taken = self.subscription.take()
        except RobotError as error:
            self._refuse(str(error))
            return
        if taken is None:
            return
        message, t_published = taken
        if why := self._complaint(message):
            self._refuse(why)
            return
        for array in self.wire.arrays:
            array.unpack(getattr(message, array.attr), position)
        self.t_published = t_published
        self._stamp = _header_ns(message)
        self.late = f"nothing new on {self.wire.topic}"

    @property
    def was_refused(self) -> bool:
        """Whether messages have come that were refused."""
        return self._refused > 0

    def _refuse(self, why: str) -> None:
        self._refused += 1
        self.late = f"{self.wire.topic}: refused {self._refused}, {why}"

    def _complaint(self, message: Any) -> str:
        """Why a message is refused; empty if it is good."""
        for array in self.wire.arrays:
            if why := array.complaint(getattr(message, array.attr)):
                return why
        if self.wire.names and tuple(message.name) != self.wire.names:
            return f"the joints' names are not {', '.join(self.wire.names)}"
        behind = self._stamp - _header_ns(message)
        if 0 < behind < RESTART_NS:
            return "older than the one before"
        return ""


def _header_ns(message: Any) -> int:
    """The stamp in a message's header, ns; 0 where there is none."""
    header = getattr(message, "header", None)
    return 0 if header is None else header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
