"""IGRIS_C: its bytes, its maps, what is latched, and what is refused, over real DDS on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import make_idl_struct
from cyclonedds.idl.types import array, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from dds_env import fresh_domain
from launched import until
from playing import Fake
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from rt.arrays import Vector
from rt.config import Config, JointGroup, load
from rt.errors import ConfigError, RobotError
from rt.launcher.options import parse
from rt.robots.fake.igris_c import Servos
from rt.robots.igris_c import messages
from rt.robots.igris_c.messages import (
    LOW_CMD,
    LOW_CMD_TOPIC,
    LOW_STATE,
    LOW_STATE_TOPIC,
    MOTORS,
    KinematicMode,
    LowCmd,
    LowState,
)
from rt.robots.igris_c.options import check, wire
from rt.robots.igris_c.robot import IgrisC
from rt.robots.robot import SafeStop, State
from rt.testing.configs import config

GROUPS = (
    JointGroup(name="left_arm", lower_deg=(-90,) * 7, upper_deg=(90,) * 7),
    JointGroup(name="right_arm", lower_deg=(-90,) * 7, upper_deg=(90,) * 7),
    JointGroup(name="neck", lower_deg=(-90,) * 2, upper_deg=(90,) * 2),
)
HANDS = (
    GROUPS[0],
    JointGroup(name="left_hand", lower_deg=(0,), upper_deg=(90,)),
    GROUPS[1],
    JointGroup(name="right_hand", lower_deg=(0,), upper_deg=(90,)),
)
KP, KD = [10.0 + i for i in range(MOTORS)], [1.0 + i / 100 for i in range(MOTORS)]
PJS = {"kinematic_mode": "pjs", "index_map": "joint_space", "kp": KP, "kd": KD}
MS = PJS | {"kinematic_mode": "ms", "index_map": "motor_space"}
ARMS = {"left_arm": list(range(15, 22)), "right_arm": list(range(22, 29))}
LATCHED = np.arange(15)  # legs and waist
NOTHING_NEW = f"nothing new on {LOW_STATE_TOPIC}"
KEEP_ALL = Qos(
    Policy.Reliability.Reliable(max_blocking_time=0),
    Policy.History.KeepAll,
    Policy.DataRepresentation(use_cdrv0_representation=True),
)
# Of the SDK's generated type information, December 2025: what DDS compares.
SDK_TYPE_HASHES = {
    LowState: "189d9cedc162d54e75e99f79bef3",
    LowCmd: "8cb19919702052cdd45d17f99a4a",
}
MSG = {
    "MotorCmd": "uint16 id\nfloat32 q\nfloat32 dq\nfloat32 tau\nfloat32 kp\nfloat32 kd",
    "LowCmd": "uint32 kinematic_mode\nigris_c/MotorCmd[31] motors",
    "IMUState": "float32[4] quaternion\nfloat32[3] gyroscope\n"
    "float32[3] accelerometer\nfloat32[3] rpy",
    "MotorState": "float32 q\nfloat32 dq\nfloat32 tau_est\nint16 temperature\nuint32 status_bits",
    "JointState": "float32 q\nfloat32 dq\nfloat32 tau_est\nuint32 status_bits",
    "LowState": "uint32 tick\nigris_c/IMUState imu_state\n"
    "igris_c/MotorState[31] motor_state\nigris_c/JointState[31] joint_state",
}


def a_config(
    options: dict[str, Any], groups: tuple[JointGroup, ...] = GROUPS, **more: Any
) -> Config:
    defaults = {"name": "igris_c", "io": "dds", "fake": "this test", "domain": fresh_domain()}
    return config(groups, **(defaults | {"options": options, "state_timeout_s": 10.0} | more))


class Body:
    """IGRIS_C's end of the wire, by raw cyclonedds in this process."""

    def __init__(self, domain: int) -> None:
        self._participant = DomainParticipant(domain)  # of the domain that the driver opened
        self.state = LowState()
        self._writer = self.writer()
        topic = Topic(self._participant, LOW_CMD_TOPIC, LowCmd)
        self._reader = DataReader(self._participant, topic, KEEP_ALL)

    def writer(
        self, kind: type = LowState, topic: str = LOW_STATE_TOPIC, qos: Qos = KEEP_ALL
    ) -> DataWriter[Any]:
        return DataWriter(self._participant, Topic(self._participant, topic, kind), qos)

    def best_effort(self) -> None:
        """Publish on as the driver of another robot might."""
        del self._writer
        self._writer = self.writer(
            qos=Qos(
                Policy.Reliability.BestEffort,
                Policy.DataRepresentation(use_cdrv0_representation=True),
            )
        )

    def say(self, q: Vector | None = None, *, tick: int | None = None) -> None:
        """Publish a state, one tick later. Motors are 0.5 rad ahead of joints."""
        record = self.state.record
        record["tick"] = record["tick"] + 1 if tick is None else tick
        if q is not None:
            record["joint_state"]["q"] = q
            record["motor_state"]["q"] = q + 0.5
        self._writer.write(self.state)

    def commands(self) -> list[Any]:
        """Every command since the last look."""
        return [message.record for message in self._reader.take(10_000)]

    def next_command(self) -> Any:
        return until("a command", self.commands)[-1]


class Pair:
    """A driver, started, and the body that it drives."""

    def __init__(self, options: dict[str, Any] = PJS, robot_class: type = IgrisC, **more: Any):
        self.config = a_config(options, **more)
        self.robot = robot_class(self.config, None)
        self.body = Body(self.config.run.domain)
        self.q = np.linspace(-0.3, 0.3, MOTORS)
        self.start()

    def start(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(self.robot.start_state_readers)
            while not started.done():
                self.body.say(self.q)
                time.sleep(0.005)
            started.result()

    def heard(self, what: str, true: Any) -> State:
        """Once a state of which `true` holds was read."""
        seen: list[State] = []

        def look() -> bool:
            seen.append(self.robot.read_state())
            return bool(true(seen[-1]))

        until(what, look, 10.0)
        return seen[-1]


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.robot.shutdown()


def random_record(dtype: np.dtype[Any]) -> Any:
    """Every field another, none of them NaN; padding as zero as on a wire."""
    random = np.random.default_rng(1)
    record = np.zeros((), dtype)

    def fill(view: Any) -> None:
        if view.dtype.names:
            for name in view.dtype.names:
                fill(view[name])
        elif view.dtype.kind == "f":
            view[...] = random.standard_normal(view.shape)
        else:
            view[...] = random.integers(0, 2**15, view.shape)

    fill(record)
    return record


def in_full(record: Any, kind: type[Any]) -> Any:
    """A record as an object of `kind`, field by field."""
    made = object.__new__(kind)
    for name in record.dtype.names:
        value = record[name]
        parts = {"motors": "MotorCmd", "motor_state": "MotorState", "joint_state": "JointState"}
        if name in parts:
            value = [in_full(part, getattr(messages, parts[name])) for part in value]
        elif name == "imu_state":
            value = in_full(value, messages.IMUState)
        elif name == "kinematic_mode":
            value = KinematicMode(int(value) % 2)
        else:
            value = value.tolist()
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(("kind", "dtype"), [(LowCmd, LOW_CMD), (LowState, LOW_STATE)])
def test_bytes_are_those_of_cyclonedds_and_of_rosbags(kind: Any, dtype: Any) -> None:
    record = random_record(dtype)
    if kind is LowCmd:
        record["kinematic_mode"] = 1
    ours = kind(record).serialize()
    full = in_full(record, kind)
    generic = kind.__idl__.serialize(full, use_version_2=False)
    assert ours == generic

    store = get_typestore(Stores.EMPTY)
    for name, text in MSG.items():
        store.register(get_types_from_msg(text, f"igris_c/msg/{name}"))
    typename = f"igris_c/msg/{kind.__name__}"
    decoded: Any = store.deserialize_cdr(ours, typename)
    assert bytes(store.serialize_cdr(decoded, typename)) == ours
    axes = "motors" if kind is LowCmd else "motor_state"
    np.testing.assert_array_equal([axis.q for axis in getattr(decoded, axes)], record[axes]["q"])


@pytest.mark.parametrize(("kind", "dtype"), [(LowCmd, LOW_CMD), (LowState, LOW_STATE)])
def test_either_byte_order_is_read_and_anything_else_refused(kind: Any, dtype: Any) -> None:
    record = random_record(dtype)
    little = kind(record).serialize()
    big = b"\0\0\0\0" + record.astype(dtype.newbyteorder(">")).tobytes()
    for data in (little, big):
        copy = kind()
        copy.record[...] = kind.deserialize(data).record  # by field: the padding stays zero
        assert copy.serialize() == little
    for bad in (little[:-4], little + bytes(4), b"\0\x07" + little[2:], b"", b"\0"):
        with pytest.raises(ValueError, match="expected the header"):
            kind.deserialize(bad)


@pytest.mark.parametrize("kind", [LowCmd, LowState])
def test_dds_sees_the_type_of_the_sdk(kind: Any) -> None:
    info = kind.__idl__.get_type_info()
    assert (
        bytes(info.minimal.typeid_with_size.type_id.equivalence_hash).hex() == SDK_TYPE_HASHES[kind]
    )


@pytest.mark.parametrize(
    ("options", "groups", "indices"),
    [
        (PJS, GROUPS, range(15, 31)),
        (MS, HANDS, range(15, 31)),
        (MS, HANDS[:1] + HANDS[2:3], [*range(15, 22), *range(23, 30)]),
        (PJS | {"index_map": {"neck": [30, 29]}}, GROUPS[2:], [30, 29]),
    ],
)
def test_maps_that_fit(options: Any, groups: Any, indices: Any) -> None:
    assert wire(a_config(options, groups)).indices.tolist() == list(indices)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"index_map": "motor_space"}, "'motor_space' is a map of kinematic_mode 'ms', got"),
        ({"kinematic_mode": "ms"}, "'joint_space' is a map of kinematic_mode 'pjs', got"),
        ({"kinematic_mode": "joint"}, "kinematic_mode: expected one of ms, pjs"),
        ({"index_map": "sdk"}, "index_map"),
        ({"index_map": ARMS}, r"index_map\.neck: expected the indices of this joint group"),
        ({"index_map": ARMS | {"neck": [29]}}, "neck: expected 2 indices, one for each"),
        ({"index_map": ARMS | {"neck": [29, 29]}}, r"neck\[1\]: expected each index once, got 29"),
        ({"index_map": ARMS | {"neck": [29, 21]}}, "got 21 again, which left_arm has"),
        ({"index_map": ARMS | {"neck": [29, 31]}}, r"neck\[1\]: expected an index from 15 to 30"),
        ({"index_map": ARMS | {"neck": [-1, 30]}}, r"neck\[0\]: expected an index from 15 to 30"),
        ({"index_map": ARMS | {"neck": [14, 30]}}, "got 14, which is a leg's or the waist's"),
        ({"index_map": ARMS | {"neck": [29, 30], "nose": []}}, "unknown joint group 'nose'"),
        ({"kp": KP[1:]}, "kp: expected 31 numbers, one for each index, got 30"),
        ({"kd": [-1.0, *KD[1:]]}, r"kd\[\.\.\.\]|kd\[0\]"),
        ({"status_bits": {"32": "hot"}}, "status_bits: expected bits from 0 to 31, got '32'"),
        ({"stiffness": 1}, "unknown key 'stiffness'"),
    ],
)
def test_options_that_do_not_fit_are_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refused:
        check(a_config(PJS | change))
    assert "\n" not in str(refused.value)


def test_the_shipped_configuration_fits_and_moves_nothing_unless_named() -> None:
    shipped = load.load_config(parse(["--robot", "igris_c"])).config
    check(shipped)
    assert shipped.run.io == "sim"  # which it has not
    assert shipped.control_hz == 300


def test_positions_come_and_commands_go_by_the_map(pair: Pair) -> None:
    action = np.linspace(1, 2, 16)
    state = pair.heard("a state", lambda state: state.t_capture)
    np.testing.assert_allclose(state.position, pair.q[15:], atol=1e-6)
    assert isinstance(pair.robot, SafeStop)
    assert (state.fault, state.late) == ("", NOTHING_NEW)

    assert pair.body.commands() == []  # nothing before the first action
    pair.robot.hold()
    assert pair.body.commands() == []
    pair.robot.publish_action(action)
    command = pair.body.next_command()
    assert command["kinematic_mode"] == KinematicMode.PJS.value
    motors = command["motors"]
    np.testing.assert_array_equal(motors["id"], range(MOTORS))
    np.testing.assert_allclose(motors["q"], [*pair.q[:15], *action], atol=1e-6)
    np.testing.assert_array_equal(motors["kp"], np.float32(KP))
    np.testing.assert_array_equal(motors["kd"], np.float32(KD))
    assert not motors["dq"].any()
    assert not motors["tau"].any()
    pair.robot.hold()
    assert pair.body.next_command() == command


def test_motor_space_reads_motors_and_says_so() -> None:
    reversed_neck = MS | {"index_map": {"neck": [30, 29]}}
    pair = Pair(reversed_neck, groups=GROUPS[2:])
    state = pair.heard("a state", lambda state: state.t_capture)
    np.testing.assert_allclose(state.position, pair.q[[30, 29]] + 0.5, atol=1e-6)
    pair.robot.publish_action(np.array([1.0, 2.0]))
    command = pair.body.next_command()
    assert command["kinematic_mode"] == KinematicMode.MS.value
    np.testing.assert_allclose(command["motors"]["q"], [*(pair.q[:29] + 0.5), 2.0, 1.0], atol=1e-6)
    pair.robot.shutdown()


class Rereading(IgrisC):
    """The mistake: the legs are commanded to be where they were just measured."""

    def publish_action(self, action: Vector) -> None:
        self._enabled = False
        super().publish_action(action)


@pytest.mark.parametrize(("robot_class", "creeps"), [(IgrisC, False), (Rereading, True)])
def test_what_is_latched_does_not_creep_under_gravity(robot_class: type, creeps: bool) -> None:
    pair, servos = Pair(robot_class=robot_class), Servos()
    servos.q, servos.braked = pair.q.copy(), False
    action, after_1_s = pair.q[15:].copy(), pair.q
    for k in range(3000):  # 10 s
        if k == 300:
            after_1_s = servos.q.copy()
        pair.body.say(servos.q)
        tick = pair.body.state.record["tick"]
        until(
            "the state",
            lambda tick=tick: pair.robot.read_state() and pair.robot._reader._tick == tick,
        )
        pair.robot.publish_action(action)
        servos.step(pair.body.next_command()["motors"], 1 / 300)
    crept = np.abs(servos.q - after_1_s)[LATCHED].max()
    assert (crept > 0.2) if creeps else (crept < 1e-3)
    pair.robot.shutdown()


def test_error_bits_are_a_fault_by_name(pair: Pair) -> None:
    record = pair.body.state.record
    record["motor_state"]["status_bits"][17] = 0b100 | 1 << 20
    pair.body.say()
    state = pair.heard("the fault", lambda state: state.fault)
    assert state.fault == "motor 17 (left_arm[2]): stalled, bit 20"
    record["joint_state"]["status_bits"][3] = 1
    pair.body.say()
    state = pair.heard("two", lambda state: "more" in state.fault)
    assert state.fault == "motor 17 (left_arm[2]): stalled, bit 20; and 1 more"
    record["motor_state"]["status_bits"] = 0
    pair.body.say()
    pair.heard("the leg's", lambda s: s.fault == "joint 3 (latched): initialisation failed")
    record["joint_state"]["status_bits"] = 0
    pair.body.say()
    pair.heard("no fault", lambda state: not state.fault)


def test_error_bits_of_a_message_that_is_refused_are_told(pair: Pair) -> None:
    pair.body.state.record["motor_state"]["status_bits"][17] = 0b100
    pair.body.say(np.full(MOTORS, np.nan))
    state = pair.heard("the refusal", lambda s: "is not finite" in s.late)
    assert state.fault == "motor 17 (left_arm[2]): stalled"


def test_a_leg_that_was_moved_away_is_a_fault_and_stays_latched() -> None:
    pair = Pair(max_following_error_deg=25)
    moved = pair.q.copy()
    moved[3] += np.deg2rad(30)
    moved[20] += np.deg2rad(30)  # an arm is control's to watch
    pair.robot.publish_action(pair.q[15:])
    pair.body.next_command()
    pair.body.say(moved)
    state = pair.heard("the fault", lambda state: state.fault)
    assert state.fault == "index 3, which is latched, is 30 deg from where it is held"
    pair.robot.hold()
    np.testing.assert_allclose(pair.body.next_command()["motors"]["q"], pair.q, atol=1e-6)
    moved[3] -= np.deg2rad(6)
    pair.body.say(moved)
    pair.heard("it back", lambda state: not state.fault)
    pair.robot.shutdown()


def test_a_message_that_is_not_finite_changes_nothing(pair: Pair) -> None:
    before = pair.heard("a state", lambda state: state.t_capture)
    bad = pair.q + 1
    bad[4] = np.nan
    pair.body.say(bad)
    state = pair.heard("a refusal", lambda state: "refused" in state.late)
    assert state.late == "rt/lowstate: refused 1, joint_state[4].q is not finite"
    assert state.t_capture == before.t_capture
    np.testing.assert_array_equal(state.position, before.position)
    pair.body.say(pair.q)
    pair.heard("a good one", lambda s: s.t_capture > before.t_capture and s.late == NOTHING_NEW)


def test_a_message_that_comes_again_is_no_new_measurement(pair: Pair) -> None:
    pair.body.say(pair.q, tick=7)
    before = pair.heard("it", lambda _: pair.robot._reader._tick == 7)
    pair.body.say(pair.q, tick=7)  # what a gateway does when the robot is silent
    state = pair.heard("it again", lambda s: s.late == "rt/lowstate: refused 1, tick 7 after 7")
    assert state.t_capture == before.t_capture
    pair.body.say(pair.q, tick=8)
    pair.heard("the next", lambda s: s.t_capture > before.t_capture and s.late == NOTHING_NEW)


def test_a_robot_that_does_not_count_is_heard(pair: Pair) -> None:
    for offset in (1.0, 2.0):

        def came(state: State, offset: float = offset) -> bool:
            pair.body.say(pair.q + offset, tick=0)
            return bool(abs(state.position[0] - pair.q[15] - offset) < 1e-6)

        pair.heard("a state", came)


def test_ticks_that_go_backwards_are_refused_until_the_robot_has_started_anew(pair: Pair) -> None:
    pair.body.say(pair.q, tick=1000)
    pair.heard("it", lambda _: pair.robot._reader._tick == 1000)
    for tick in (998, 999):
        pair.body.say(pair.q + 1, tick=tick)
        state = pair.heard("it", lambda s, tick=tick: s.late.endswith(f"tick {tick} after 1000"))
        np.testing.assert_allclose(state.position, pair.q[15:], atol=1e-6)
    pair.body.say(pair.q, tick=1001)
    pair.heard("it", lambda s: s.late == NOTHING_NEW)
    for tick in (0, 1):
        pair.body.say(pair.q + 1, tick=tick)
        pair.heard("it", lambda s, tick=tick: s.late.endswith(f"tick {tick} after 1001"))
    pair.body.say(pair.q + 1, tick=2)
    pair.heard("the one that started anew", lambda s: abs(s.position[0] - pair.q[15] - 1) < 1e-6)
    pair.body.say(pair.q, tick=2**32 - 1)  # 3 behind 2
    pair.heard("it", lambda s: s.late.endswith("after 2"))


def test_two_robots_on_one_domain_are_a_fault(pair: Pair) -> None:
    twin = pair.body.writer()
    state = pair.heard("the fault", lambda state: state.fault)
    assert state.fault == "2 publishers on rt/lowstate: two robots with one id, or one domain?"
    del twin
    pair.body.say(pair.q)
    pair.heard("it to leave", lambda state: not state.fault)
    assert (
        pair.robot.read_state().late == f"nothing new on {LOW_STATE_TOPIC}"
    )  # that it left is no message


def start_alone(**options: Any) -> str:
    """The sentence with which a start fails."""
    robot = IgrisC(a_config(PJS, state_timeout_s=0.5, **options), None)  # type: ignore[arg-type]
    try:
        with pytest.raises(RobotError) as refused:
            robot.start_state_readers()
    finally:
        robot.shutdown()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_state_that_never_comes_is_named_with_what_is_there() -> None:
    domain = fresh_domain()
    sentence = start_alone(domain=domain)
    assert f"no state from igris_c within 0.5 s on domain {domain}" in sentence
    assert "rt/lowstate (igris_c::msg::dds::LowState), which nobody publishes" in sentence
    assert "Published there: nothing; is the robot on" in sentence


def test_a_best_effort_publisher_is_heard_as_well(pair: Pair) -> None:
    pair.body.best_effort()

    def came(state: State) -> bool:
        pair.body.say(np.full(MOTORS, 0.7))
        return bool((state.position == np.float32(0.7)).all())

    pair.heard("a state that was sent best-effort", came)


def test_a_state_of_another_type_is_named() -> None:
    pair = Pair()
    Other = make_idl_struct("Other", "igris_c_sdk::msg::dds_::LowState_", {"x": array[uint32, 3]})
    del pair.body._writer
    writer = pair.body.writer(Other)
    robot = pair.robot
    there = until(
        "it to be seen",
        lambda: {t: k for t, k in robot._bus.topics().items() if "igris_c_sdk" in k},
    )
    assert (
        "expected rt/lowstate to be igris_c::msg::dds::LowState, got igris_c_sdk/msg/LowState"
        in robot._reader.why_missing(there)
    )
    del writer
    robot.shutdown()


def test_another_program_that_commands_it_is_refused() -> None:
    class Watched(IgrisC):
        def __init__(self, config: Config, session: Any) -> None:
            super().__init__(config, session)
            other = DomainParticipant(config.run.domain)
            topic = Topic(other, LOW_CMD_TOPIC, LowCmd)
            self.other = DataWriter(other, topic, KEEP_ALL)

    with pytest.raises(RobotError, match="expected nobody else to command igris_c"):
        Pair(robot_class=Watched)


def test_another_program_that_comes_to_command_it_is_a_fault_until_it_leaves(pair: Pair) -> None:
    pair.robot.publish_action(pair.q[15:])
    other = pair.body.writer(LowCmd, LOW_CMD_TOPIC)
    state = pair.heard("the fault", lambda state: state.fault)
    assert "rt/lowcmd is published on domain" in state.fault
    del other
    pair.heard("it to leave", lambda state: not state.fault)


@pytest.mark.parametrize("commanded_before", [True, False])
def test_a_safe_stop_lets_the_arms_sink_and_holds_the_legs(commanded_before: bool) -> None:
    pair = Pair(safe_stop_s=0.2)
    action = pair.q[15:] + 0.1
    if commanded_before:
        pair.robot.publish_action(action)
        pair.body.next_command()
    pair.body.say(pair.q + 0.2)
    pair.heard("the sag", lambda s: abs(s.position[0] - pair.q[15] - 0.2) < 1e-6)
    pair.robot.safe_stop()
    commands = until("the commands", pair.body.commands)
    assert len(commands) == 61
    kp = np.array([command["motors"]["kp"] for command in commands])
    np.testing.assert_array_equal(kp[:, LATCHED], np.float32([KP[:15]] * 61))
    assert (np.diff(kp[:, 15:], axis=0) < 0).all()
    assert (kp[0, 15:] == np.float32(KP[15:])).all()
    assert not kp[-1, 15:].any()
    held = [*pair.q[:15], *action] if commanded_before else pair.q + 0.2
    for command in commands:
        np.testing.assert_allclose(command["motors"]["q"], held, atol=1e-6)
        np.testing.assert_array_equal(command["motors"]["kd"], np.float32(KD))
    pair.robot.shutdown()


def test_the_fake_robot_is_driven_and_its_errors_are_named() -> None:
    """Two real processes: the driver here, the robot there."""
    with Fake("igris_c") as fake:
        robot = IgrisC(a_config(PJS, domain=fake.domain), None)  # type: ignore[arg-type]
        robot.start_state_readers()
        for k in range(100):
            robot.read_state()
            robot.publish_action(np.full(16, 0.002 * k))
            time.sleep(0.003)

        def follows() -> bool:
            robot.hold()  # what was sent before the two had met is lost
            return bool(np.abs(robot.read_state().position - 0.198).max() < 0.1)

        until("the arms to follow", follows)
        fake.fault("status 5 17")
        until("the fault", lambda: robot.read_state().fault.startswith("motor 17 (left_arm[2]): "))
        state = robot.read_state()
        assert 0 < time.monotonic_ns() - state.t_capture < 1e9
        assert fake.stream(LOW_CMD_TOPIC).refused == 0
        robot.shutdown()
