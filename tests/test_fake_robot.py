"""The fake robot: what it says, obeys, reports and breaks, over real DDS on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cyclonedds.domain import DomainParticipant
from dds_env import fresh_domain, fresh_robot_id
from launched import ROOT, SHM, run_module, segments, until
from playing import Fake

from rt import clock
from rt.arrays import Vector
from rt.cli import pick_session
from rt.config import Config
from rt.config.load import load_config
from rt.errors import NoSessionError, RobotError
from rt.launcher.options import parse
from rt.launcher.prepare import with_fake
from rt.records import frame_dtype
from rt.robots.dds import DdsBus
from rt.robots.dds.bus import LOOPBACK
from rt.robots.dds.messages import JointState
from rt.robots.fake.faults import FLOOD
from rt.robots.fake.hearing import Hearing
from rt.robots.fake.presence import find_fake
from rt.robots.igris_c.messages import LOW_CMD_TOPIC, LOW_STATE_TOPIC, LowCmd, LowState
from rt.session import Lock, Session, robot_lock, session_names

RIGHT_FIRST_DEG = np.array([20.0, 30, 0, -120, 0, 0, -20, -30, 0, 120, 0, 0])
AWAY_DEG = np.array([40.0, 30, 0, -120, 0, 0, -20, -30, 0, 120, 0, 0])  # by the right shoulder
NO_CYCLONEDDS = (
    "import sys; sys.modules['cyclonedds'] = None; from rt.robots.fake.__main__ import main; "
    "sys.exit(main([]))"
)


class Talk:
    """The other end of the wire: reads and commands a fake robot."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self.bus = DdsBus(fake.domain, loopback=True)
        at = f"/igris_b/{fake.robot_id}"
        self.joints = self.bus.subscribe(f"{at}/joint_states", "JointState")
        self.fingers = self.bus.subscribe(f"{at}/finger_state", "Float32MultiArray")
        self._commands = self.bus.advertise(f"{at}/target_joints", "JointState")
        writer = self._commands._writer
        until("the fake robot to listen", writer.get_matched_subscriptions)

    def next(self, subscription: Any) -> Any:
        """The next message."""
        subscription.take()
        return until("a message", subscription.take, 10.0)[0]

    def arms_deg(self) -> Vector:
        """(12,) deg, as on the wire."""
        return np.degrees(self.next(self.joints).position)

    def command(self, arms_deg: Vector) -> None:
        """Command (12,) deg, as on the wire."""
        message = self.bus.message("JointState")
        message.position = np.radians(arms_deg).tolist()
        self._commands.publish(message)

    def go_to(self, arms_deg: Vector) -> None:
        """Command it at once, and wait until it is there."""
        self.command(arms_deg)
        until("the arms to follow", lambda: np.abs(self.arms_deg() - arms_deg).max() < 0.5)
        self._fake.settle()


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        yield fake


@pytest.fixture(scope="module")
def talk(fake: Fake) -> Iterator[Talk]:
    talk = Talk(fake)
    yield talk
    talk.bus.close()


@pytest.fixture(autouse=True)
def healthy(request: pytest.FixtureRequest) -> None:
    """What one test broke is mended before the next."""
    if "fake" in request.fixturenames:
        fake = request.getfixturevalue("fake")
        until("no fault", lambda: not fake.report.faults)


def test_the_wire_is_right_first_both_ways(talk: Talk) -> None:
    message = talk.next(talk.joints)
    np.testing.assert_allclose(np.degrees(message.position), RIGHT_FIRST_DEG, atol=0.5)
    assert len(message.effort) == len(message.name) == 12
    assert len(talk.next(talk.fingers).data) == 12

    talk.go_to(np.where(np.arange(12) == 0, 24.0, RIGHT_FIRST_DEG))  # the right shoulder alone
    talk.go_to(RIGHT_FIRST_DEG)


def test_every_command_is_counted_and_the_largest_step_found(fake: Fake, talk: Talk) -> None:
    talk.go_to(RIGHT_FIRST_DEG)
    before = fake.stream("target_joints")
    for number in range(40):  # faster than the fake robot listens; one of them is an outlier
        talk.command(RIGHT_FIRST_DEG + (45.0 if number == 17 else 0.5))
    fake.when(
        "40 commands", lambda _: fake.stream("target_joints").commands == before.commands + 40
    )
    after = fake.stream("target_joints")
    assert after.largest_step_deg == pytest.approx(44.5)
    assert after.t_first == before.t_first < after.t_last <= clock.now_ns()
    assert fake.stream("finger_target").commands == 0


def test_it_obeys_no_command_that_is_short_or_not_finite(fake: Fake, talk: Talk) -> None:
    talk.go_to(RIGHT_FIRST_DEG)
    before = fake.stream("target_joints")
    talk.command(np.zeros(11))
    fake.when("a refusal", lambda _: fake.stream("target_joints").refused == before.refused + 1)
    talk.command(np.full(12, np.nan))
    fake.when("another", lambda _: fake.stream("target_joints").refused == before.refused + 2)
    assert fake.stream("target_joints").commands == before.commands
    np.testing.assert_allclose(talk.arms_deg(), RIGHT_FIRST_DEG, atol=0.5)


def test_a_new_scene_is_set_when_the_hand_is_back(fake: Fake, talk: Talk) -> None:
    talk.go_to(RIGHT_FIRST_DEG)
    with Session(fake.name).reader("frame.head") as ring:
        frame = np.zeros((), frame_dtype(240, 320))
        ring.read_latest(frame)
        old, scenes = frame.copy(), fake.report.scenes
        talk.go_to(AWAY_DEG)
        assert fake.report.scenes == scenes
        talk.go_to(RIGHT_FIRST_DEG)
        fake.when("a new scene", lambda report: report.scenes == scenes + 1)

        def shown() -> bool:
            ring.read_latest(frame)
            return bool((frame["image"] != old["image"]).any())

        until("the cameras to show it", shown)
        assert old["t_capture"] < frame["t_capture"] <= clock.now_ns()


@pytest.mark.parametrize(
    ("fault", "length"), [("short", 11), ("long", 13), ("nan", 12), ("names", 12)]
)
def test_a_fault_spoils_the_messages_of_its_topic(
    fake: Fake, talk: Talk, fault: str, length: int
) -> None:
    good = talk.next(talk.joints)
    fake.fault(f"{fault} 0.3 joints")
    bad = talk.next(talk.joints)
    assert len(bad.position) == length
    assert np.isnan(bad.position[0]) == (fault == "nan")
    assert (bad.name == good.name[1:] + good.name[:1]) == (fault == "names")
    assert len(talk.next(talk.fingers).data) == 12
    until("the fault to end", lambda: talk.next(talk.joints).name == good.name)
    until("the fault to end", lambda: np.isfinite(talk.arms_deg()).all())


def test_a_stalled_topic_is_silent_and_comes_back(fake: Fake, talk: Talk) -> None:
    fake.fault("stall 1 joints")
    talk.joints.take()
    began = clock.now_ns()
    assert len(talk.next(talk.fingers).data) == 12
    talk.next(talk.joints)
    assert clock.now_ns() - began > 0.3e9


def test_a_flood_is_ten_times_the_messages(fake: Fake, talk: Talk) -> None:
    """Counted with a reader that keeps all, over as many of the robot's own stamps."""
    every = Hearing(
        DomainParticipant(fake.domain), f"rt/igris_b/{fake.robot_id}/joint_states", JointState
    )
    until("a message", lambda: list(every.messages()))
    fake.fault("flood 1")
    seen: list[tuple[int, int]] = []

    def repeated() -> bool:
        seen.extend((m.header.stamp.sec, m.header.stamp.nanosec) for m in every.messages())
        return max(map(seen.count, seen), default=0) >= FLOOD

    until("ten with one stamp", repeated)


def test_blocked_joints_stand_still_and_go_on_when_released(fake: Fake, talk: Talk) -> None:
    talk.go_to(RIGHT_FIRST_DEG)
    commands = fake.stream("target_joints").commands
    fake.fault("block 0.6")
    talk.command(AWAY_DEG)
    fake.when("the command", lambda _: fake.stream("target_joints").commands > commands)
    np.testing.assert_allclose(talk.arms_deg(), RIGHT_FIRST_DEG, atol=0.5)
    until("the arms to go on", lambda: np.abs(talk.arms_deg() - AWAY_DEG).max() < 0.5)
    talk.go_to(RIGHT_FIRST_DEG)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stal 2", "did you mean 'stall'"),
        ("stall", "expected NAME SECONDS"),
        ("stall -1", "expected seconds > 0"),
        ("stall soon", "expected seconds > 0"),
        ("stall 2 jonts", "did you mean 'joints'"),
    ],
)
def test_a_fault_that_there_is_not_is_refused(fake: Fake, text: str, sentence: str) -> None:
    with pytest.raises(RobotError, match=sentence):
        fake.fault(text)
    assert not fake.report.faults


def test_neither_it_nor_a_robots_lock_is_a_session(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoSessionError, match="start one with"):
        pick_session(fake.name)
    with robot_lock(config_of("dds", fake.robot_id, fake.domain)):
        ours = [name for name in session_names() if fake.robot_id in name]
        assert len(ours) == 2
        monkeypatch.setattr("rt.cli.session_names", lambda: ours)
        with pytest.raises(NoSessionError):
            pick_session(None)
    assert run_module("rt.inspect", "--session", fake.name).returncode == 3


def config_of(io: str, robot_id: str, domain: int) -> Config:
    words = ["--robot", "igris_b", "--io", io]
    words += ["--set", f"topics.robot_id={robot_id}", "--set", f"run.domain={domain}"]
    return load_config(parse(words)).config


def found(io: str, robot_id: str, domain: int) -> str:
    """The fake robot that a launch would take for its robot."""
    return with_fake(config_of(io, robot_id, domain)).run.fake


def test_a_launch_finds_the_fake_and_sim_and_other_robots_do_not(fake: Fake) -> None:
    assert found("dds", fake.robot_id, fake.domain) == fake.name
    assert found("ros2", fake.robot_id, fake.domain) == fake.name
    assert found("sim", fake.robot_id, fake.domain) == ""
    assert found("dds", "another", fake.domain) == ""
    assert found("dds", fake.robot_id, fake.domain % 230 + 1) == ""


def test_a_fake_on_the_network_is_a_real_robot_to_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)  # the user's own word, which keeps the test here
    with Fake("igris_b", "--network") as fake:
        assert found("dds", fake.robot_id, fake.domain) == ""
        assert "on the network" in fake.output


def test_the_same_fake_is_refused_while_it_lives(fake: Fake) -> None:
    who = ("--robot_id", fake.robot_id, "--domain", str(fake.domain))
    second = run_module("rt.robots.fake", *who)
    assert second.returncode == 2
    assert f"pid {fake.presence.pid}" in second.stderr
    assert second.stderr.count("\n") == 1
    assert fake.presence is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order_with_a_report_and_leaves_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    with Fake("igris_b", "--report", str(tmp_path / "report.json"), "--rate", "300") as fake:
        assert fake.presence is not None
        assert fake.stop(number) == 0
        assert segments(fake.name) == []
        assert fake.presence is None
        assert "reached 0 of 1 scenes" in fake.output
        report = json.loads((tmp_path / "report.json").read_text())
        assert list(report["streams"]) == [
            f"/igris_b/{fake.robot_id}/{topic}" for topic in ("target_joints", "finger_target")
        ]


def test_a_killed_fake_is_not_found_and_another_takes_its_place() -> None:
    with Fake() as fake:
        fake.kill()
        assert segments(fake.name)
        assert find_fake("igris_b", fake.robot_id, fake.domain) is None
        with Lock(fake.name, "supervisor"):  # as another has it that has not told of itself yet
            assert find_fake("igris_b", fake.robot_id, fake.domain) is None
            os.truncate(SHM / f"rt.{fake.name}.fake", 0)  # a ring that is being made
            assert find_fake("igris_b", fake.robot_id, fake.domain) is None
        fake.start()
        assert fake.stop() == 0
        assert segments(fake.name) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--robot", "igris_x"], "did you mean"),
        (["--domain", "300"], "--domain: expected a number from 0 to 232, got 300"),
        (["--report", "/nowhere/report.json"], "expected a file in a folder that exists"),
        (["--rate", "0"], "--rate: expected Hz > 0"),
        (["--robot_id", "two words"], "robot_id: expected 1 to 64 letters"),
        (["--robot_id", "x" * 60], "--robot_id: expected a shorter one"),
        (["--fault", "stall 2"], "no fake igris_b with robot_id"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str) -> None:
    who = ("--robot_id", fresh_robot_id(), "--domain", str(fresh_domain()))
    done = run_module("rt.robots.fake", *who, *arguments)
    assert done.returncode in (2, 3)
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_its_pip_command_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_CYCLONEDDS], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install -e '.[dds]'" in done.stderr


def test_a_fault_that_began_is_told(fake: Fake) -> None:
    who = ("--robot_id", fake.robot_id, "--domain", str(fake.domain))
    done = run_module("rt.robots.fake", *who, "--fault", "flood 1 joints")
    assert (done.returncode, done.stdout) == (0, "flood 1 s on joints: begun\n")


def test_the_faults_are_listed() -> None:
    done = run_module("rt.robots.fake", "--list_faults")
    assert done.returncode == 0
    assert "stall" in done.stdout


def test_igris_c_sags_without_stiffness_holds_with_it_and_reports_an_error_bit() -> None:
    with Fake("igris_c") as fake:
        bus = DdsBus(fake.domain, loopback=True)
        states = bus.subscribe_type(LOW_STATE_TOPIC, LowState)
        commands = bus.advertise_type(LOW_CMD_TOPIC, LowCmd)
        until("the fake robot to listen", commands._writer.get_matched_subscriptions)

        def state() -> Any:
            return until("a state", states.take, 10.0)[0].record

        assert (state()["motor_state"]["q"] == 0).all()  # braked until it is commanded
        command: Any = LowCmd()
        motors = command.record["motors"]
        motors["kp"][1:], motors["kd"][1:], motors["q"][1:] = 50, 2, 0.2
        commands.publish(command)
        until("it to sink", lambda: state()["motor_state"]["q"][0] < -0.3)
        np.testing.assert_allclose(state()["motor_state"]["q"][1:], 0.2, atol=0.01)
        both = state()
        np.testing.assert_array_equal(both["joint_state"]["q"], both["motor_state"]["q"])
        assert not state()["motor_state"]["status_bits"].any()

        motors["q"][1] = np.nan
        commands.publish(command)
        fake.when("a refusal", lambda _: fake.stream(LOW_CMD_TOPIC).refused == 1)
        assert fake.stream(LOW_CMD_TOPIC).first_step_deg == pytest.approx(np.degrees(0.2))

        fake.fault("status 1 17")
        states.take()
        assert np.flatnonzero(state()["motor_state"]["status_bits"]) == [17]
        fake.fault("block 1")
        states.take()
        at = state()["motor_state"]["q"]
        assert (state()["motor_state"]["q"] == at).all()
        bus.close()
        assert fake.stop() == 0
