"""One state topic: takes its newest message, and takes over what it says or refuses it."""

from __future__ import annotations

from typing import Any

from rt.arrays import Vector
from rt.robots.bus import Subscription
from rt.robots.intake import Intake
from rt.robots.topics.wiring import Wire

RESTART_NS = 1_000_000_000  # a stamp that goes back so far is a sender with a new clock


class Reading:
    """The joints that one topic measures."""

    def __init__(self, wire: Wire, subscription: Subscription) -> None:
        self.wire = wire
        self.intake = Intake(wire.topic, subscription)
        self._stamp = 0  # the newest good message's header, ns of the sender's clock

    def update(self, position: Vector) -> None:
        """Write the newest message's joints to `position` (S,), unless it must be refused."""
        taken = self.intake.take()
        if taken is None:
            return
        message, t_published = taken
        if why := self._complaint(message):
            self.intake.refuse(why)
            return
        for array in self.wire.arrays:
            array.unpack(getattr(message, array.attr), position)
        self.intake.accept(t_published)
        self._stamp = _header_ns(message)

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
