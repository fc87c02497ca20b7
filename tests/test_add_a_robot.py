"""docs/add_a_robot.md, as a reader follows it: its very files, launched. Nothing in rt/ is changed
for them."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from contract.cases import CASES, Rig, free_ports
from guide import GUIDE, write_guide
from launched import Launched, run_module, segments, unique_session

from rt.config import Config
from rt.config.load import load_config
from rt.errors import ConfigError, RtError
from rt.launcher.options import parse
from rt.launcher.prepare import check_run
from rt.robots.dds.bus import LOOPBACK
from rt.robots.robot import Robot, SafeStop, Task

SEVEN_ROS = next(case for case in CASES if case.robot == "./seven_ros")
FAST = ("--set", "robot.initial_speed_deg_s=200")  # as fast as the limits allow


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """The guide's files, in a folder of their own."""
    return write_guide(tmp_path)


@contextlib.contextmanager
def controller(folder: Path) -> Iterator[Callable[[], str]]:
    """The guide's stand-in for the robot, at ports that its robot.yaml then has too. It tells,
    once, what it has said."""
    ports = free_ports(2)
    path = folder / "robot.yaml"
    path.write_text(path.read_text().replace("9001", str(ports[0])).replace("9002", str(ports[1])))
    with subprocess.Popen(
        [sys.executable, str(folder / "controller.py"), *map(str, ports)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def said() -> str:
            process.kill()
            return process.communicate()[0]

        try:
            yield said
        finally:
            process.kill()


def loaded(folder: Path) -> Config:
    return load_config(parse(["--robot", str(folder)])).config


def test_a_robot_with_a_driver_of_its_own_runs(reader: Path) -> None:
    session = unique_session("seven")
    with controller(reader / "seven") as said:
        ended = run_module(
            *("rt.launch", "--robot", str(reader / "seven"), "--session", session),
            *(*FAST, "--yes", "--duration", "4"),
        )
        told = said()
    assert ended.returncode == 0, ended
    assert chunks(ended.stdout) >= 2
    commands, step = re.findall(r"(\d+) commands, largest step ([\d.]+) rad", told)[-1]
    assert int(commands) > 200, told  # 100 a second
    # 40 degrees a second, in hundredths; told with four digits
    assert float(step) == pytest.approx(np.deg2rad(0.4), abs=1e-4)
    assert segments(session) == []


KNOT = """
import weakref

living = set()


class Knot:
    def __init__(self):
        self.itself = self
        living.add(id(self))
        weakref.finalize(self, living.discard, id(self))


"""


def test_what_a_driver_leaves_behind_in_cycles_does_not_add_up(reader: Path) -> None:
    """Control runs without the collector."""
    driver = reader / "seven" / "driver.py"
    begins = "    def read_state(self) -> State:\n"
    code = driver.read_text()
    assert code.count(begins) == 1
    most = 250  # of 100 a second
    tie = f"        Knot()\n        assert len(living) < {most}, 'knots add up'\n"
    at = code.index("\nclass ")
    driver.write_text((code[:at] + KNOT + code[at:]).replace(begins, begins + tie))
    seven = ("--robot", str(reader / "seven"), "--yes")
    with controller(reader / "seven"), Launched("knots", *seven) as launched:
        stats = launched.when("it has run", lambda s: s["tick"] > 3 * most)["tick_stats"]
        assert launched.stop() == 0
    assert stats["robot_faults"] == 0, stats["why"]


def test_a_robot_that_speaks_ros_messages_runs_without_code_after_go(
    reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rig(SEVEN_ROS, reader) as rig:
        start = np.zeros(rig.joints)
        rig.start_robot(start)
        rig.tell(follow=True)
        monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
        monkeypatch.setenv("ROS_DOMAIN_ID", str(rig.config.run.domain))
        asked = ("--robot", str(reader / "seven_ros"), *FAST)
        robot_id = f"topics.robot_id={rig.config.topics.robot_id}"
        with Launched("seven_ros", *asked, "--set", robot_id) as session:
            session.when("previews", lambda s: s["inference"]["published"] >= 2)
            rig.wait_for_more(10)
            assert rig.commands == []
            ended = run_module("rt.command", "go", "--session", session.session)
            assert ended.returncode == 0, ended
            session.when("two chunks executed", lambda s: s["chunk"]["row"] > 0 and s["chunk"]["s"])
            assert session.stop() == 0
            session.nothing_left()
            assert chunks(session.output) >= 2
        rig.listen()
    commands = np.array([c for c in rig.commands if None not in c])
    steps = np.abs(np.diff([start, *commands], axis=0)).max(axis=0)
    assert steps[:6].max() == pytest.approx(np.deg2rad(0.4))  # 40 degrees a second
    assert steps[6] <= np.deg2rad(0.6) + 1e-6  # 3 degrees a row; the gripper is float32
    initial = np.nan_to_num(rig.config.initial_rad)
    assert np.abs(commands - initial).max(axis=1).min() < 1e-6  # the gripper stayed
    assert (np.ptp(commands[-50:], axis=0) > 0).all()  # every joint sways


def chunks(summary: str) -> int:
    """How many were published; none was dropped."""
    found = re.search(r"chunks +(\d+) published, \d+ late, (\d+) dropped", summary)
    assert found, summary
    assert found[2] == "0"
    return int(found[1])


def test_a_dry_run_commands_nothing(reader: Path) -> None:
    with controller(reader / "seven") as said:
        seven = ("--robot", str(reader / "seven"), "--dry_run", "--yes")
        with Launched("seven", *seven) as launched:
            launched.when_chunks(1)
            snapshot = launched.when("a state", lambda s: s["joints"][0]["measured_deg"])
            assert snapshot["joints"][0]["measured_deg"] == [0.0] * 7
            assert launched.stop() == 0
        told = said()
    assert set(re.findall(r"(\d+) commands", told)) == {"0"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("options: {host", "options: {hots"), r"robot\.yaml: options: unknown key 'hots'"),
        (
            ("port: 9001", "port: here"),
            r"robot\.yaml: options: port: expected a whole number, got text 'here'",
        ),
        (("driver: driver.py", "driver: drivr.py"), r"driver: expected a file, but nothing is at"),
        (("driver: driver.py", "driver: my.driver"), r"there is no 'my\.driver'"),
        (("io: udp", "io: tcp"), r"no backend for --io tcp: expected --io udp"),
        (("name: seven", "name: eight"), r"name: expected 'seven', its folder's name"),
    ],
)
def test_a_mistake_in_the_folder_is_refused_before_anything_starts(
    reader: Path, change: tuple[str, str], complaint: str
) -> None:
    path = reader / "seven" / "robot.yaml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(RtError, match=complaint) as caught:
        check_run(loaded(reader / "seven"))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_robot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a folder with a robot\.yaml, got none"):
        loaded(tmp_path)


def test_the_guide_names_the_methods_that_there_are(reader: Path) -> None:
    documented = set(re.findall(r"^    def ([a-z]\w+)\(self", GUIDE, re.MULTILINE))
    assert documented == {name for name in vars(Robot) if not name.startswith("_")}
    optional = {name for kind in (Task, SafeStop) for name in vars(kind) if name[0] != "_"}
    assert optional == set(re.findall(r"`(\w+)\(\)`", GUIDE))


def test_the_keys_that_the_guide_names_are_those_of_the_files(reader: Path) -> None:
    config = loaded(reader / "seven")
    group = config.robot.joint_groups[0]
    keys = {*config.robot.__struct_fields__, *config.params.__struct_fields__}
    keys |= {*group.__struct_fields__}
    tables = re.search(r"## Limits\n(.*?)\n## ", GUIDE, re.DOTALL)
    assert tables
    named = {
        name
        for row in re.findall(r"^\| (`.*?`) \|", tables[1], re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert len(named) >= 8
    assert named <= keys
