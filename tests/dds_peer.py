"""The other end of a wire, as a process of its own.

dds_peer.py DOMAIN publish TOPIC HZ        JointStates that count: position 12 x 0.0, 12 x 1.0, ...
dds_peer.py DOMAIN network TOPIC HZ        the same, not confined to this machine
dds_peer.py DOMAIN echo ROBOT_ID           an IGRIS_B that is at once where it was commanded to be
"""

from __future__ import annotations

import itertools
import signal
import sys
import time

from rt.robots.dds import DdsBus


def publish(bus: DdsBus, topic: str, hz: str) -> None:
    publisher = bus.advertise(topic, "JointState")
    for number in itertools.count():
        message = bus.message("JointState")
        message.position = [float(number)] * 12
        publisher.publish(message)
        time.sleep(1 / float(hz))


def echo(bus: DdsBus, robot_id: str) -> None:
    at = f"/igris_b/{robot_id}"
    joints = bus.subscribe(f"{at}/target_joints", "JointState")
    fingers = bus.subscribe(f"{at}/finger_target", "Float32MultiArray")
    joint_states = bus.advertise(f"{at}/joint_states", "JointState")
    finger_state = bus.advertise(f"{at}/finger_state", "Float32MultiArray")
    arms, hands = [0.0] * 12, [0.0] * 12
    while True:
        if taken := joints.take():
            arms = taken[0].position
        if taken := fingers.take():
            hands = taken[0].data
        message = bus.message("JointState")
        message.position = arms
        joint_states.publish(message)
        message = bus.message("Float32MultiArray")
        message.data = hands
        finger_state.publish(message)
        time.sleep(0.005)


if __name__ == "__main__":
    _, domain, role, *arguments = sys.argv
    bus = DdsBus(int(domain), loopback=role != "network")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        {"publish": publish, "network": publish, "echo": echo}[role](bus, *arguments)
    finally:
        bus.close()
