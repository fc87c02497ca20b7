"""What a fake robot is given to play on, and what it has to be able to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from cyclonedds.domain import DomainParticipant

from rt.config import Config
from rt.robots.dds import DdsBus
from rt.robots.fake.faults import Faults
from rt.robots.fake.report import Report
from rt.session import Session


class Stage(NamedTuple):
    """Where a fake robot plays."""

    config: Config
    session: Session  # with a ring for each of its cameras
    bus: DdsBus  # to speak
    participant: DomainParticipant  # to hear
    report: Report
    faults: Faults


class Played(Protocol):
    """A robot as `rt.robots.fake.process` drives it."""

    places: tuple[str, ...]  # where a fault may be: its topics, its motors

    def listen(self) -> None:
        """Take the commands that came."""

    def step(self, duration_s: float) -> None:
        """Move for so long."""

    def publish(self) -> None:
        """Tell the state."""

    def paint(self, t_capture: int) -> None:
        """Show what the cameras see, at `t_capture` ns."""

    def close(self) -> None:
        """Let go of the rings."""


class Role(NamedTuple):
    """A robot that can be played."""

    played: Callable[[Stage], Played]
    rate_hz: float  # of its states
    sees: bool  # it has a world, and cameras in it
