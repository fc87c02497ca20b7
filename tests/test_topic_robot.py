"""A robot of ROS messages: what is measured, what is commanded, and what is refused, over DDS."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from dds_env import fresh_domain, fresh_robot_id, peer
from launched import until

from rt import clock
from rt.config import Config, RuntimeTopics
from rt.config.files import convert, read_mapping
from rt.errors import ConfigError, RobotError
from rt.robots import igris_b
from rt.robots.dds import DdsBus
from rt.robots.topics.robot import TopicRobot
from rt.robots.topics.wiring import check, state_wires
from rt.testing.configs import TWO_ARMS, config

FILE = Path(__file__).parents[1] / "configs/robots/igris_b/inference_runtime_topics.json"
KEYS = tuple(
    f"/observation/{part}/{side}"
    for part in ("joint_pos", "hand_joint_pos")
    for side in ("left", "right")
)
MS = 1_000_000
RIGHT, LEFT = slice(0, 6), slice(6, 12)  # on the wire


def topics_file() -> dict[str, Any]:
    """IGRIS_B's own, as plain values to change."""
    return read_mapping(FILE)


def igris(topics: dict[str, Any], robot_id: str, **overrides: Any) -> Config:
    """IGRIS_B with these topics."""
    made = config(TWO_ARMS, state_keys=KEYS, io="dds", **overrides)
    topics = topics | {"robot_id": robot_id}
    return msgspec.structs.replace(made, topics=convert(topics, RuntimeTopics, FILE))


class Rig:
    """IGRIS_B's driver, and in the test's hands the robot's end of the wires."""

    def __init__(self, change: Callable[[dict[str, Any]], None], **overrides: Any) -> None:
        self.domain, self.robot_id = fresh_domain(), fresh_robot_id()
        topics = topics_file()
        change(topics)
        overrides = {"state_timeout_s": 20.0, "domain": self.domain} | overrides
        self.config = igris(topics, self.robot_id, **overrides)
        self.bus = DdsBus(self.domain, loopback=True)
        self.robot = TopicRobot(self.config, self.bus)
        self.joints = self.bus.advertise(self.topic("joint_states"), "JointState")
        self.fingers = self.bus.advertise(self.topic("finger_state"), "Float32MultiArray")
        self.targets = self.bus.subscribe(self.topic("target_joints"), "JointState")
        self.finger_targets = self.bus.subscribe(self.topic("finger_target"), "Float32MultiArray")

    def topic(self, name: str) -> str:
        return f"/igris_b/{self.robot_id}/{name}"

    def joint_state(self, value: float = 0.0, **fields: Any) -> Any:
        message = self.bus.message("JointState")
        message.position = [value] * 12
        for name, given in fields.items():
            setattr(message, name, given)
        return message

    def send(self, value: float = 0.0, **fields: Any) -> None:
        """A JointState; the fingers are sent zeros beside it."""
        self.joints.publish(self.joint_state(value, **fields))
        self.send_fingers([0.0] * 12)

    def send_fingers(self, data: list[float]) -> None:
        message = self.bus.message("Float32MultiArray")
        message.data = data
        self.fingers.publish(message)

    def start(self, send: Callable[[], None] | None = None) -> Rig:
        """Start the driver while the robot sends."""
        over = threading.Event()

        def keep_sending() -> None:
            while not over.wait(0.002):
                (send or self.send)()

        sender = threading.Thread(target=keep_sending)
        sender.start()
        try:
            self.robot.start_state_readers()
        finally:
            over.set()
            sender.join()
        self.robot.read_state()  # what the sender sent at last is taken
        return self


Build = Callable[..., Rig]


@pytest.fixture
def rig() -> Iterator[Build]:
    """`rig(change=..., **overrides)`: a started Rig; `change` edits the topics file."""
    rigs: list[Rig] = []

    def build(change: Callable[[dict[str, Any]], None] = lambda topics: None, **others: Any) -> Rig:
        rigs.append(Rig(change, **others))
        return rigs[-1]

    yield build
    for made in rigs:
        made.robot.shutdown()


def test_the_wires_order_right_then_left_becomes_the_vectors_left_then_right(rig: Build) -> None:
    r = rig().start()
    r.joints.publish(r.joint_state(position=[*range(100, 106), *range(200, 206)]))
    r.send_fingers([*range(300, 306), *range(400, 406)])
    state = r.robot.read_state()
    left_arm, right_arm, left_hand, right_hand = np.split(state.position, 4)
    assert left_arm.tolist() == [*range(200, 206)]
    assert right_arm.tolist() == [*range(100, 106)]
    assert left_hand.tolist() == [*range(400, 406)]
    assert right_hand.tolist() == [*range(300, 306)]


def test_a_command_goes_out_in_the_wires_order(rig: Build) -> None:
    r = rig().start()
    r.robot.publish_action(np.arange(24.0))
    joints, fingers = r.targets.take(), r.finger_targets.take()
    assert joints is not None
    assert fingers is not None
    assert joints[0].position == [*range(6, 12), *range(6)]
    assert list(fingers[0].data) == [*range(18, 24), *range(12, 18)]
    assert joints[0].header.stamp.sec > 0


def test_a_robot_that_echoes_in_another_process_comes_to_the_commanded_pose() -> None:
    domain, robot_id = fresh_domain(), fresh_robot_id()
    bus = DdsBus(domain, loopback=True)
    robot = TopicRobot(igris(topics_file(), robot_id, state_timeout_s=20.0), bus)
    pose = np.linspace(0.0, 1.0, 24).astype(np.float32).astype(np.float64)
    with peer(domain, "echo", robot_id):
        robot.start_state_readers()
        assert (robot.read_state().position == 0.0).all()

        def arrived() -> bool:
            robot.publish_action(pose)
            return bool((robot.read_state().position == pose).all())

        until("the pose", arrived)
    robot.shutdown()


def test_nothing_is_sent_before_the_first_action_and_a_hold_repeats_the_last(rig: Build) -> None:
    r = rig(max_state_age_ms=60_000).start()
    r.robot.hold()
    assert r.targets.take() is None
    r.robot.publish_action(np.full(24, 0.25))
    assert r.targets.take() is not None
    r.robot.hold()
    joints, fingers = r.targets.take(), r.finger_targets.take()
    assert joints is not None
    assert joints[0].position == [0.25] * 12
    assert fingers is not None
    assert list(fingers[0].data) == [0.25] * 12


def test_a_robot_that_is_silent_is_not_told_to_hold(rig: Build) -> None:
    r = rig(max_state_age_ms=300).start()
    r.robot.publish_action(np.full(24, 0.25))
    until("the action", r.targets.take)
    until("the state to be old", lambda: clock.now_ns() - r.robot.read_state().t_capture > 350e6)
    r.robot.hold()
    assert r.targets.take() is None, "it may be about to come back somewhere else"

    def held() -> Any:
        r.send()
        r.robot.read_state()
        r.robot.hold()
        return r.targets.take()

    until("a hold once it is heard again", held)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"position": [1.0] * 11}, "11 values of position, not 12"),
    "long": ({"position": [1.0] * 13}, "13 values of position, not 12"),
    "empty": ({"position": []}, "0 values of position, not 12"),
    "nan": ({"position": [1.0] * 11 + [math.nan]}, "position is not finite"),
    "infinite": ({"position": [-math.inf] + [1.0] * 11}, "position is not finite"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_message_changes_nothing_and_is_named(rig: Build, kind: str) -> None:
    fields, why = BAD[kind]
    r = rig().start()
    good = r.robot.read_state()
    position, t_capture = good.position.copy(), good.t_capture
    r.joints.publish(r.joint_state(**fields))
    r.send_fingers([0.5] * 12)  # these go on, and the arms are now the oldest
    state = r.robot.read_state()
    assert state.late == f"{r.topic('joint_states')}: refused 1, {why}"
    assert state.t_capture <= t_capture
    assert (state.position[:12] == position[:12]).all()
    assert (state.position[12:] == 0.5).all()
    r.send(1.0)
    state = r.robot.read_state()
    assert (state.position[:12] == 1.0).all()
    assert state.t_capture > t_capture
    assert "refused" not in state.late


def test_short_finger_arrays_are_refused_likewise(rig: Build) -> None:
    r = rig().start()
    r.joints.publish(r.joint_state(1.0))
    r.send_fingers([1.0] * 6)
    state = r.robot.read_state()
    assert state.late == f"{r.topic('finger_state')}: refused 1, 6 values of data, not 12"
    assert state.position.tolist() == [1.0] * 12 + [0.0] * 12


def test_bytes_that_are_no_message_are_refused(rig: Build) -> None:
    r = rig().start()
    broken = r.joint_state()
    broken.serialize = lambda **_: b"\0\1\0\0" + b"\0" * 8 + b"\4\0\0\0\xff\xfe\xfd\0" + b"\0" * 16
    r.joints.publish(broken)
    r.send_fingers([0.0] * 12)
    assert "refused 1, bytes that are no sensor_msgs" in r.robot.read_state().late


def test_joints_out_of_order_are_refused_where_the_topics_file_names_them(rig: Build) -> None:
    names = [f"joint_{index}" for index in range(12)]

    def name_them(topics: dict[str, Any]) -> None:
        topics["topics"]["joints"]["names"] = names
        topics["commands"]["joints"]["names"] = names

    r = rig(name_them)
    named = r.joint_state
    r.joint_state = lambda value=0.0, **fields: named(value, **({"name": names} | fields))  # type: ignore[method-assign]
    r.start()
    r.send(1.0, name=names[::-1])
    state = r.robot.read_state()
    assert "refused 1, the joints' names are not joint_0, joint_1" in state.late
    assert (state.position == 0.0).all()
    r.send(1.0)
    assert (r.robot.read_state().position[:12] == 1.0).all()
    r.robot.publish_action(np.zeros(24))
    command = r.targets.take()
    assert command is not None
    assert command[0].name == names


def stamped(r: Rig, seconds: float) -> Any:
    message = r.joint_state(seconds)
    message.header.stamp.sec = int(seconds)
    message.header.stamp.nanosec = round((seconds % 1) * 1e9)
    return message


def test_a_message_older_than_the_one_before_is_refused_unless_the_clock_was_set(
    rig: Build,
) -> None:
    r = rig().start()

    def arm_after(seconds: float) -> float:
        r.joints.publish(stamped(r, seconds))
        r.send_fingers([0.0] * 12)
        return float(r.robot.read_state().position[0])

    assert arm_after(1000.0) == 1000.0
    assert arm_after(999.5) == 1000.0
    assert r.robot.read_state().late.endswith("refused 1, older than the one before")
    assert arm_after(1000.25) == 1000.25
    assert arm_after(5.0) == 5.0  # the sender started anew, with its clock at zero


def test_a_publisher_whose_clock_was_set_back_is_heard_at_once(rig: Build) -> None:
    r = rig().start()
    now = time.time_ns()
    for value, published in ((1.0, now), (2.0, now - 300 * MS)):
        before = clock.now_ns()
        r.joints._writer.write(r.joint_state(value), published)  # type: ignore[attr-defined]
        r.send_fingers([0.0] * 12)
        state = r.robot.read_state()
        assert state.position[0] == value
        assert state.t_capture >= before


def test_the_oldest_topic_says_how_old_the_state_is(rig: Build) -> None:
    r = rig().start()
    before = r.robot.read_state().t_capture
    r.send_fingers([0.0] * 12)
    state = r.robot.read_state()
    assert state.t_capture == before
    assert state.late == f"nothing new on {r.topic('joint_states')}"
    r.joints.publish(r.joint_state())
    state = r.robot.read_state()
    assert state.t_capture > before
    assert state.late == f"nothing new on {r.topic('finger_state')}"


def test_the_sensors_latency_is_taken_off(rig: Build) -> None:
    r = rig(state_latency_ms=30.0).start()
    r.send()
    state = r.robot.read_state()
    assert clock.now_ns() - state.t_capture >= 30 * MS


def test_two_robots_with_one_id_are_a_fault_until_one_goes(rig: Build) -> None:
    r = rig().start()

    def fault() -> str:
        r.send()  # one that is silent when another begins would pass for its predecessor
        return r.robot.read_state().fault

    assert fault() == ""
    with peer(r.domain, "publish", r.topic("joint_states"), 50):
        told = until("the fault", fault)
        assert told == (
            f"2 publishers on {r.topic('joint_states')}: two robots with one id, or one domain?"
        )
    until("it to go", lambda: not fault())


def test_a_publisher_that_restarts_is_heard_again(rig: Build) -> None:
    r = rig()
    del r.joints  # another process has its place

    def send_fingers() -> None:
        r.send_fingers([0.0] * 12)

    def counts() -> bool:
        send_fingers()
        return bool(r.robot.read_state().position[0] >= 3.0)

    with peer(r.domain, "publish", r.topic("joint_states"), 100) as first:
        r.start(send_fingers)
        until("messages", counts)
        first.kill()  # it stays matched for ten seconds
    r.robot._position.fill(np.nan)
    with peer(r.domain, "publish", r.topic("joint_states"), 100):
        until("messages of the second", counts)
        until("no fault", lambda: counts() and not r.robot.read_state().fault)


def test_messages_at_ten_times_the_rate_leave_the_newest(rig: Build) -> None:
    r = rig().start()
    for value in range(500):
        r.send(float(value))
    assert (r.robot.read_state().position[:12] == 499.0).all()
    state = r.robot.read_state()
    assert (state.position[:12] == 499.0).all()


def missing(r: Rig) -> str:
    with pytest.raises(RobotError) as caught:
        r.robot.start_state_readers()
    return str(caught.value)


def test_a_topic_that_never_comes_is_named_with_what_there_is(rig: Build) -> None:
    r = rig(state_timeout_s=1.5)
    with peer(r.domain, "publish", f"/igris_b/other_{r.robot_id}/joint_states", 50):
        said = missing(r)
    assert f"within 1.5 s on domain {r.domain}" in said
    assert f"{r.topic('finger_state')} (std_msgs/msg/Float32MultiArray), which nobody" in said
    assert f"/igris_b/other_{r.robot_id}/joint_states (sensor_msgs/msg/JointState)" in said
    assert "check the robot_id" in said


def test_where_nothing_is_published_the_sentence_says_so(rig: Build) -> None:
    said = missing(rig(state_timeout_s=0.1))
    assert "Published there: nothing; is the robot on" in said


def test_a_topic_of_another_type_is_told(rig: Build) -> None:
    r = rig(state_timeout_s=1.5)
    with peer(r.domain, "publish", r.topic("finger_state"), 50):
        said = missing(r)
    assert (
        f"expected {r.topic('finger_state')} to be std_msgs/msg/Float32MultiArray, got "
        "sensor_msgs/msg/JointState: mend msg_type" in said
    )


def test_a_robot_that_sends_only_what_is_refused_is_told_so(rig: Build) -> None:
    def expect_seven(topics: dict[str, Any]) -> None:
        topics["topics"]["joints"]["names"] = [f"joint_{index}" for index in range(12)]

    r = rig(expect_seven, state_timeout_s=1.5)
    del r.joints
    with peer(r.domain, "publish", r.topic("joint_states"), 50):
        said = missing(r)
    assert f"expected {r.topic('joint_states')} as the topics file describes it" in said
    assert "the joints' names are not joint_0" in said


def test_a_robot_that_somebody_else_commands_is_refused(rig: Build) -> None:
    r = rig()
    with peer(r.domain, "publish", r.topic("target_joints"), 50):
        until("the other", r.bus.topics)
        with pytest.raises(RobotError, match=r"target_joints is published on domain \d+: stop the"):
            r.start()


def test_somebody_else_who_comes_to_command_it_is_a_fault_until_he_leaves(rig: Build) -> None:
    r = rig().start()
    r.robot.publish_action(np.zeros(24))
    assert r.robot.read_state().fault == ""
    with peer(r.domain, "publish", r.topic("target_joints"), 50):
        fault = until("the fault", lambda: r.robot.read_state().fault)
        assert f"{r.topic('target_joints')} is published on domain {r.domain}" in fault
    until("it to go", lambda: not r.robot.read_state().fault)


def edit(*path: str, to: object) -> dict[str, Any]:
    """IGRIS_B's topics file with one value changed; `...` takes it away."""
    topics = topics_file()
    inner = topics
    for key in path[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return topics


JOINTS_LEFT = ("commands", "joints", "fields", "/observation/joint_pos/left")


@pytest.mark.parametrize(
    ("path", "to", "complaint"),
    [
        (("topics", "fingers"), ..., "topics: expected a topic with the field '/observation/hand"),
        (("commands", "joints"), ..., "commands: expected a topic with the field '/observation/jo"),
        (("topics", "joints", "msg_type"), "JointStates", "unknown msg_type 'JointStates'"),
        (("topics", "joints", "topic"), "a b", "expected a ROS topic name"),
        ((*JOINTS_LEFT, "attr"), "data", "expected position or velocity or effort of JointState"),
        ((*JOINTS_LEFT, "slice"), [7, 13], "fill its 13 values of position, got 12"),
        ((*JOINTS_LEFT, "slice"), [3, 9], "slices of position that do not overlap"),
        (("topics", "joints", "names"), ["a"] * 11, "within the 11 names"),
        (("topics", "fingers", "names"), ["a"] * 12, "a Float32MultiArray has no names"),
    ],
)
def test_a_topics_file_that_cannot_be_meant_is_refused(
    path: tuple[str, ...], to: object, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(igris(edit(*path, to=to), "packy"))
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("inference_runtime_topics.json: ")


def test_a_topic_of_motor_currents_alone_is_not_listened_to() -> None:
    topics = topics_file()
    topics["topics"]["currents"] = {
        "topic": "/igris_b/{robot_id}/finger_current",
        "msg_type": "Float32MultiArray",
        "fields": {"/observation/hand_joint_cur/left": {"slice": [6, 12], "attr": "data"}},
    }
    made = igris(topics, "packy")
    check(made)
    assert [wire.topic for wire in state_wires(made)] == [
        "/igris_b/packy/joint_states",
        "/igris_b/packy/finger_state",
    ]


def test_igris_b_is_reached_in_three_ways() -> None:
    assert list(igris_b.BACKENDS) == ["sim", "dds", "ros2"]
