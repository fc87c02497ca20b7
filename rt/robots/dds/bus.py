"""`rt.robots.bus.Bus` over cyclonedds.

Guarantees:
  - No listener is set, so no thread ever runs Python: cyclonedds's own are C's alone.
  - A subscription keeps one message, the newest: what a tick would have thrown away is never
    decoded, however fast it comes.
  - A publisher never blocks, and keeps one message, so that no command comes after a newer one.
  - With `loopback` nothing is sent to or taken from any network.
  - Whoever sets the wall clock back does not stop DDS: see `_Waker`.

Assumptions:
  - A process opens a domain once. Opening it starts five threads: before SCHED_FIFO.
  - Without `loopback` cyclonedds is configured by CYCLONEDDS_URI, as ROS users know it.
"""

from __future__ import annotations

import os
import re
import time
from functools import cached_property
from typing import Any

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import DDSException, Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.internal import InvalidSample
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from rt import clock
from rt.errors import RobotError
from rt.robots.bus import full_type_name
from rt.robots.dds.messages import IDL_TYPES
from rt.robots.dds.senders import Senders

# Leaving, nobody waits for a robot that is gone to confirm the last command.
ALWAYS = """<CycloneDDS><Domain Id="any">
<Internal><WriterLingerDuration>0 s</WriterLingerDuration></Internal>
</Domain></CycloneDDS>"""
LOOPBACK = """<CycloneDDS><Domain Id="any">
<General>
  <Interfaces><NetworkInterface name="lo"/></Interfaces>
  <AllowMulticast>false</AllowMulticast>
</General>
<Discovery>
  <ParticipantIndex>auto</ParticipantIndex>
  <MaxAutoParticipantIndex>60</MaxAutoParticipantIndex>
  <Peers><Peer address="127.0.0.1"/></Peers>
</Discovery>
</Domain></CycloneDDS>"""
# ROS's defaults, but for the depth. A write that finds no room fails instead of waiting.
QOS = Qos(
    Policy.Reliability.Reliable(max_blocking_time=0),
    Policy.Durability.Volatile,
    Policy.History.KeepLast(1),
    Policy.WriterDataLifecycle(autodispose=False),
    Policy.DataRepresentation(use_cdrv0_representation=True),
)
HEARS_ALL = Qos(
    Policy.Reliability.BestEffort,
    Policy.Durability.Volatile,
    Policy.History.KeepLast(1),
    Policy.DataRepresentation(use_cdrv0_representation=True),
)
HEARS_OTHERS = Qos(Policy.IgnoreLocal.Participant, base=HEARS_ALL)
MANY = 10_000  # more endpoints than a domain has
SET_BACK_NS = 1_000_000_000  # what no adjustment of a running clock comes to between two looks


class _Waker:
    """Wakes cyclonedds's event thread after the wall clock was set back.

    As pip installs it, cyclonedds waits until times of the wall clock (11.0.1 is built without
    pthread_condattr_setclock; eclipse-cyclonedds issue 1995), so its events would stand still for
    as long as the step: a close would not end. A writer that is deleted wakes it.
    """

    def __init__(self, participant: DomainParticipant) -> None:
        self.participant: DomainParticipant | None = participant  # None: closed
        self._ahead_ns = time.time_ns() - clock.now_ns()

    def look(self) -> None:
        """Call it often: two looks at clocks, and after a step back 2 ms, once."""
        before_ns, self._ahead_ns = self._ahead_ns, time.time_ns() - clock.now_ns()
        # Once, whatever comes of it: what failed in every tick would be a robot without a state.
        if self._ahead_ns < before_ns - SET_BACK_NS and self.participant is not None:
            topic = Topic(self.participant, "rt_wake", IDL_TYPES["Float32MultiArray"], QOS)
            DataWriter(self.participant, topic, QOS)  # deleted with its last reference: here


class DdsBus:
    """The topics of one DDS domain."""

    def __init__(self, domain: int, *, loopback: bool) -> None:
        """Join `domain`. Raises RobotError when cyclonedds cannot."""
        own = LOOPBACK if loopback else os.environ.get("CYCLONEDDS_URI")
        try:
            self._domain = Domain(domain, ",".join(filter(None, (ALWAYS, own))))
            self._participant = DomainParticipant(domain)
            self._waker = _Waker(self._participant)
        except (DDSException, UnicodeEncodeError) as error:  # cyclonedds takes ASCII alone
            raise RobotError(
                f"cannot join DDS domain {domain} ({error}): expected a network interface that is "
                "up, a CYCLONEDDS_URI that is right if it is set, and the domain not open already"
            ) from None

    def subscribe(self, topic: str, msg_type: str) -> DdsSubscription:
        full_type_name(msg_type)
        return self.subscribe_type(f"rt{topic}", IDL_TYPES[msg_type])

    def advertise(self, topic: str, msg_type: str) -> DdsPublisher:
        full_type_name(msg_type)
        return self.advertise_type(f"rt{topic}", IDL_TYPES[msg_type])

    def subscribe_type(
        self, topic: str, idl_type: type[IdlStruct], *, reliable: bool = True
    ) -> DdsSubscription:
        """Listen to a topic that need not be ROS's, by its name on the wire.

        Not `reliable`: a best-effort publisher is heard too, and a lost message not sent again.
        """
        qos = QOS if reliable else HEARS_ALL
        reader = DataReader(self._participant, self._topic(topic, idl_type), qos)
        return DdsSubscription(reader, self._waker)

    def advertise_type(self, topic: str, idl_type: type[IdlStruct]) -> DdsPublisher:
        """Be ready to publish on a topic that need not be ROS's, by its name on the wire."""
        return DdsPublisher(DataWriter(self._participant, self._topic(topic, idl_type), QOS))

    def _topic(self, name: str, idl_type: type[IdlStruct]) -> Topic[Any]:
        return Topic(self._participant, name, idl_type, QOS)

    def message(self, msg_type: str) -> Any:
        return IDL_TYPES[msg_type]()

    def topics(self) -> dict[str, str]:
        reader = BuiltinDataReader(self._participant, BuiltinTopicDcpsPublication)
        return dict(
            _in_ros_names(writer.topic_name, writer.type_name)
            for writer in reader.read(MANY)
            # One that has just ended may still be told of, without its type.
            if writer.type_name and writer.participant_key != self._participant.guid
        )

    def look(self) -> None:
        """Call it often where nothing is taken from a subscription: see `_Waker`."""
        self._waker.look()

    def close(self) -> None:
        # cyclonedds deletes an entity with its last reference; a participant takes all it has.
        self._waker.participant = None
        del self._participant, self._domain


class DdsSubscription:
    """`rt.robots.bus.Subscription`."""

    def __init__(self, reader: DataReader[Any], waker: _Waker) -> None:
        self._reader = reader
        self._waker = waker
        self._senders = Senders()

    def take(self) -> tuple[Any, int] | None:
        self._waker.look()
        try:
            samples = self._reader.take(2)  # one message, and that its sender left
        except Exception as error:  # the decoder's: whatever came over the network
            raise RobotError(f"bytes that are no {self._reader.topic.typename}: {error}") from None
        for sample in samples:
            if not isinstance(sample, InvalidSample):
                info = sample.sample_info
                now = clock.now_ns()
                return sample, self._senders.heard(
                    info.publication_handle, info.source_timestamp, now
                )
        return None

    @property
    def publishers(self) -> int:
        return self._senders.count(self._reader.get_matched_publications(), clock.now_ns())


class DdsPublisher:
    """`rt.robots.bus.Publisher`."""

    def __init__(self, writer: DataWriter[Any]) -> None:
        self._writer = writer

    def publish(self, message: Any) -> None:
        self._writer.write(message)

    @property
    def others(self) -> int:
        return len(self._reader.get_matched_publications())

    @cached_property
    def _reader(self) -> DataReader[Any]:
        """Nothing is read from it: DDS tells a reader who publishes to its topic."""
        participant = self._writer.participant
        assert participant is not None
        return DataReader(participant, self._writer.topic, HEARS_OTHERS)


def _in_ros_names(topic: str, type_name: str) -> tuple[str, str]:
    """`rt/a`, `p::msg::dds_::T_` → `/a`, `p/msg/T`; what is not ROS's stays as it is."""
    found = re.fullmatch(r"(\w+)::(\w+)::dds_::(\w+)_", type_name)
    if not found or not topic.startswith("rt/"):
        return topic, type_name
    return topic.removeprefix("rt"), "/".join(found.groups())
