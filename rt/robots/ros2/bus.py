"""`rt.robots.bus.Bus` over rclpy, for Humble's successors with Python 3.11 or newer.

Guarantees:
  - Nothing is spun: a subscription is asked for its message directly, so there is no executor, no
    callback and no thread of Python's. rclpy's signal handlers stay out; SIGTERM is ours.
  - A subscription keeps one message, the newest, as over DDS.

Assumptions:
  - The middleware's threads start with the node: before SCHED_FIFO.
  - A publisher that was killed is counted by ROS until its lease ends, some ten seconds: until
    then it and its successor look like two.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosidl_runtime_py.utilities import get_message

from rt import clock
from rt.errors import RobotError
from rt.robots.bus import full_type_name
from rt.robots.source_clock import SourceClock

QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


class RosBus:
    """The topics of one ROS domain."""

    def __init__(self, domain: int, namespace: str, *, loopback: bool) -> None:
        """Join `domain` in `namespace`; with `loopback`, this machine's alone.

        The node's name is its own, so that another session's is told from it. `~` in a topic has
        long been resolved, as the node `rt`.
        """
        if loopback:  # the first name is Iron's and newer, the second is older
            os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
            os.environ["ROS_LOCALHOST_ONLY"] = "1"
        self._context = Context()
        rclpy.init(
            args=[],
            context=self._context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = Node(
            f"rt_{secrets.token_hex(4)}",
            namespace=namespace,
            context=self._context,
            enable_rosout=False,
            start_parameter_services=False,
        )

    def subscribe(self, topic: str, msg_type: str) -> RosSubscription:
        return RosSubscription(self._node, topic, get_message(full_type_name(msg_type)))

    def advertise(self, topic: str, msg_type: str) -> RosPublisher:
        return RosPublisher(self._node, topic, get_message(full_type_name(msg_type)))

    def message(self, msg_type: str) -> Any:
        return get_message(full_type_name(msg_type))()

    def topics(self) -> dict[str, str]:
        return {
            topic: publisher.topic_type
            for topic, _ in self._node.get_topic_names_and_types()
            for publisher in self._node.get_publishers_info_by_topic(topic)
            if publisher.node_name != self._node.get_name()
        }

    def close(self) -> None:
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


class RosSubscription:
    """`rt.robots.bus.Subscription`."""

    def __init__(self, node: Node, topic: str, msg_class: type) -> None:
        self._node = node
        self._topic = topic
        self._subscription = node.create_subscription(msg_class, topic, _never_called, QOS)
        self._clock = SourceClock()

    def take(self) -> tuple[Any, int] | None:
        handle = self._subscription.handle
        try:
            with handle:
                taken = handle.take_message(self._subscription.msg_type, self._subscription.raw)
        except Exception as error:  # the decoder's: whatever came over the network
            name = self._subscription.msg_type.__name__
            raise RobotError(f"bytes that are no {name}: {error}") from None
        if taken is None:
            return None
        message, info = taken
        return message, self._clock.to_monotonic(info["source_timestamp"], clock.now_ns())

    @property
    def publishers(self) -> int:
        count: int = self._node.count_publishers(self._topic)
        return count


class RosPublisher:
    """`rt.robots.bus.Publisher`."""

    def __init__(self, node: Node, topic: str, msg_class: type) -> None:
        self._node = node
        self._topic = topic
        self._publisher = node.create_publisher(msg_class, topic, QOS)

    def publish(self, message: Any) -> None:
        self._publisher.publish(message)

    @property
    def others(self) -> int:
        count: int = self._node.count_publishers(self._topic)
        return max(0, count - 1)  # less itself


def _never_called(message: object) -> None:
    """What rclpy asks for, and an executor would call."""
