"""Every message of a topic, in its order. A driver's bus keeps the newest alone; whoever judges
the commands must not miss one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.internal import InvalidSample
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

QOS = Qos(
    Policy.Reliability.Reliable(max_blocking_time=0),
    Policy.Durability.Volatile,
    Policy.History.KeepAll,
    Policy.DataRepresentation(use_cdrv0_representation=True),
)


class Hearing:
    """One topic, by its name on the wire."""

    def __init__(self, participant: DomainParticipant, topic: str, idl_type: type[IdlStruct]):
        self._reader = DataReader(participant, Topic(participant, topic, idl_type), QOS)

    def messages(self) -> Iterator[Any]:
        """What came since the last look, oldest first; None for bytes that are no such message."""
        while True:
            try:
                samples = self._reader.take(1)
            except Exception:  # the decoder's: whatever came over the network
                yield None
                continue
            if not samples:
                return
            yield from (s for s in samples if not isinstance(s, InvalidSample))
