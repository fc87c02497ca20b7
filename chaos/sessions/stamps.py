"""When commands were sent, by the wall clock of who sent them: what a report does not tell."""

from __future__ import annotations

import numpy as np
from cyclonedds.domain import DomainParticipant
from launched import until
from numpy.typing import NDArray
from playing import Fake

from rt.robots.dds import DdsBus
from rt.robots.dds.messages import JointState
from rt.robots.fake.hearing import Hearing


class Stamps:
    """Of the arms' commands, heard beside a fake IGRIS_B. Use as a context manager."""

    def __init__(self, fake: Fake) -> None:
        topic = next(name for name in fake.report.streams if name.endswith("target_joints"))
        self._bus = DdsBus(fake.domain, loopback=True)
        self._participant = DomainParticipant(fake.domain)
        self._hearing = Hearing(self._participant, f"rt{topic}", JointState)
        self._sent: list[int] = []

    @property
    def sent(self) -> NDArray[np.int64]:
        """(n,) ns, oldest first."""
        self._sent += [m.sample_info.source_timestamp for m in self._hearing.messages()]
        return np.array(self._sent, np.int64)

    def when_more(self, count: int) -> int:
        """The newest, once so many more have come."""
        count += len(self.sent)
        until("the robot to be commanded", lambda: len(self.sent) >= count)
        return int(self.sent[-1])

    def __enter__(self) -> Stamps:
        return self

    def __exit__(self, *_: object) -> None:
        del self._hearing, self._participant
        self._bus.close()
