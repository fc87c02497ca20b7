"""Topics with messages on them, as a robot's driver sees them: `dds` and `ros2` are two such.

Guarantees, of every Bus:
  - Nothing here blocks or waits, and no thread of Python's is started. `take` gives the newest
    message and drops the older ones.
  - Names are ROS's: a topic is `/robot/joint_states`, a type `sensor_msgs/msg/JointState`.

Assumptions:
  - A bus is opened before the control process enters real time: its library starts threads then.
"""

from __future__ import annotations

from typing import Any, Protocol

from rt.config.words import nearest
from rt.errors import ConfigError

MESSAGE_TYPES = {
    "JointState": "sensor_msgs/msg/JointState",
    "Float32MultiArray": "std_msgs/msg/Float32MultiArray",
}
"""`msg_type` in the topics file → the type's full name."""


class Subscription(Protocol):
    """One topic that is listened to."""

    def take(self) -> tuple[Any, int] | None:
        """The newest message since the last take, and when it was published, ns CLOCK_MONOTONIC.

        The time is never later than now. Raises RobotError for bytes that are no such message;
        the next take goes on behind them.
        """

    @property
    def publishers(self) -> int:
        """How many publish to it now. Not for every tick."""


class Publisher(Protocol):
    """One topic that is spoken to."""

    def publish(self, message: Any) -> None:
        """Send a message, or raise at once when that would take waiting."""

    @property
    def others(self) -> int:
        """How many others publish to the same topic now. Not for every tick, and first asked
        before real time: a means to see them may then be opened."""


class Bus(Protocol):
    """A way to the topics of one domain."""

    def subscribe(self, topic: str, msg_type: str) -> Subscription:
        """Listen to `topic`, reliably, for the `MESSAGE_TYPES` key `msg_type`."""

    def advertise(self, topic: str, msg_type: str) -> Publisher:
        """Be ready to publish on `topic`."""

    def message(self, msg_type: str) -> Any:
        """A fresh message; its fields may be set."""

    def topics(self) -> dict[str, str]:
        """What others publish: topic → full type name. For an error's sentence, not for a tick."""

    def close(self) -> None:
        """Leave the domain. What was opened through this bus is of no use any more."""


def full_type_name(msg_type: str) -> str:
    """`JointState` → `sensor_msgs/msg/JointState`. Raises ConfigError for one unknown here."""
    if msg_type not in MESSAGE_TYPES:
        raise ConfigError(f"unknown msg_type {msg_type!r}: {nearest(msg_type, MESSAGE_TYPES)}")
    return MESSAGE_TYPES[msg_type]
