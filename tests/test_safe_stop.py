"""A robot whose control process was killed is brought to rest, if its driver knows how."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from contract.cases import CASES, Rig
from guide import write_guide
from launched import Launched, until

from rt.robots.dds import DdsBus
from rt.robots.dds.bus import LOOPBACK
from rt.robots.igris_c.messages import LOW_CMD_TOPIC, LowCmd

SEVEN = next(case for case in CASES if case.robot == "./seven")
IGRIS_C = next(case for case in CASES if case.robot == "igris_c")
REST = 0.125  # what the driver below sends, and nothing else does
SAFE_STOP = f"""    def safe_stop(self) -> None:
        assert self.read_state().t_capture
        self.publish_action(np.full(7, {REST}))

"""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """The guide's robot, whose driver can do one thing more."""
    write_guide(tmp_path)
    folder = tmp_path / "seven"
    driver = folder / "driver.py"
    code = driver.read_text()
    driver.write_text(code.replace("    def shutdown", f"{SAFE_STOP}    def shutdown"))
    with Rig(SEVEN, tmp_path) as rig:
        ports = rig.config.robot.options
        facts = folder / "robot.yaml"
        text = facts.read_text().replace("9001", str(ports["port"]))
        facts.write_text(text.replace("9002", str(ports["listen"])) + "safe_stop_s: 1\n")
        yield rig


def launched(rig: Rig, *more: str) -> Launched:
    folder = str(Path(rig.config.sources.robot).parent)
    return Launched("safe", "--robot", folder, "--yes", *more)


def kill_control(session: Launched) -> int:
    """Returns the launch's exit code."""
    os.kill(session.pid("control"), signal.SIGKILL)
    return session.wait()


def stops(rig: Rig) -> int:
    """How many of the driver's own commands have reached the robot."""
    rig.listen()
    return rig.commands.count([REST] * rig.joints)


def test_a_robot_that_lost_its_control_is_brought_to_rest(rig: Rig) -> None:
    rig.start_robot(np.zeros(7))
    rig.tell(follow=True)
    with launched(rig) as session:
        rig.until("commands", lambda: rig.commands)
        assert kill_control(session) == 1
        session.nothing_left()
    rig.until("the driver's last command", lambda: stops(rig))
    assert rig.commands[-1] == [REST] * 7


def test_a_session_that_ends_in_order_needs_no_safe_stop(rig: Rig) -> None:
    rig.start_robot(np.zeros(7))
    rig.tell(follow=True)
    with launched(rig) as session:
        rig.until("commands", lambda: rig.commands)
        assert session.stop() == 0
    assert rig.commands
    assert stops(rig) == 0


def test_a_robot_that_was_never_commanded_is_left_as_it_is(rig: Rig) -> None:
    rig.start_robot(np.full(7, 3.0))  # far outside its limits
    with launched(rig) as session:
        session.when("its refusal", lambda s: s["tick_stats"]["hold"] == "OUT_OF_LIMITS")
        assert kill_control(session) == 1
    rig.listen()
    assert rig.commands == []


def test_a_driver_that_cannot_is_refused_before_anything_moves(rig: Rig) -> None:
    driver = Path(rig.config.sources.robot).with_name("driver.py")
    driver.write_text(driver.read_text().replace("def safe_stop", "def unsafe_stop"))
    rig.start_robot(np.zeros(7))
    with launched(rig) as session:
        assert session.wait() == 2
        assert "safe_stop_s: expected 0, since the driver of seven has no" in session.output
    rig.listen()
    assert rig.commands == []


def test_igris_c_s_arms_sink_and_its_legs_stay_stiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rig(IGRIS_C, tmp_path) as rig:
        facts = rig.config.robot
        middle = [
            (a + b) / 2
            for g in facts.joint_groups
            for a, b in zip(g.lower_deg, g.upper_deg, strict=True)
        ]
        rig.start_robot(np.deg2rad(middle))
        rig.tell(follow=True)
        monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
        monkeypatch.setenv("ROS_DOMAIN_ID", str(rig.config.run.domain))
        bus = DdsBus(rig.config.run.domain, loopback=True)
        seen = bus.subscribe_type(LOW_CMD_TOPIC, LowCmd)
        asked = ("--robot", "igris_c", "--io", "dds", "--yes", "--set", "robot.safe_stop_s=1")
        with Launched("safe", *asked) as session:
            rig.until("commands", lambda: len(rig.commands) > 10)
            before = until("a command", seen.take)[0].record["motors"].copy()
            assert kill_control(session) == 1
        last = until("the last command", seen.take)[0].record["motors"]
    body = slice(0, 15)
    assert (before["kp"] == np.float32(facts.options["kp"])).all()
    assert (last["kp"][15:] == 0).all()
    assert (last["kp"][body] == before["kp"][body]).all()
    assert (last["kd"] == before["kd"]).all()
    assert (last["q"][body] == before["q"][body]).all()
