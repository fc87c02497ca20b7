"""The doctor: it runs on this machine, reads others' files rightly, and never falls ill itself."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from playing import Fake

from rt.config import Config
from rt.config.load import load_config
from rt.cores import divide
from rt.doctor import kernel, rights, ros, session, software
from rt.doctor.__main__ import CHECKS, render
from rt.doctor.row import AskError, Row, Subject, ask_python, rows_of
from rt.extras import EXTRAS
from rt.launcher.options import parse
from rt.session import Lock, Session, ring_table
from rt.shm import Ring
from tests.launched import ROOT, SHM, WITHOUT_RIGHTS, run_module, segments, unique_session

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("ROS_", "RMW_", "CYCLONEDDS_"))}


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(parse(["--robot", "igris_b"])).config


def with_io(config: Config, io: str) -> Config:
    return msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, io=io))


def machine(root: Path, files: dict[str, str]) -> Subject:
    """A subject whose /proc and /sys are these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Subject(None, {}, root=root)


def only(rows: Iterator[Row]) -> Row:
    (row,) = rows
    return row


# --- the command


def test_this_machine_has_what_the_demonstration_needs() -> None:
    done = run_module("rt.doctor", "--robot", "igris_b", "--json", env=ENV)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) >= {
        *(
            "launch",
            "/dev/shm",
            "dead sessions",
            "logout",
            "python",
            "memory fences",
            "gpu",
            "kernel",
        ),
        *("extra [sim]", "extra [dds]", "extra [viz]", "rtprio limit", "memlock limit", "cores"),
        *("frequency governor", "real-time throttling", "clock source", "ros 2"),
        *("RMW_IMPLEMENTATION", "ROS_DOMAIN_ID", "CYCLONEDDS_URI"),
    }
    assert not [row for row in rows.values() if not row["ok"] and row["required"]]
    assert not [row for row in rows.values() if not row["ok"] and not row["remedy"]]


def test_a_domain_that_is_none_is_a_row_and_not_the_end() -> None:
    done = run_module("rt.doctor", "--robot", "igris_b", env=ENV | {"ROS_DOMAIN_ID": "packy"})
    assert done.returncode == 1
    assert "MISSING  ROS_DOMAIN_ID" in done.stdout
    assert "'packy', expected a number from 0 to 232" in done.stdout
    assert "-> export ROS_DOMAIN_ID=" in done.stdout
    assert "required and missing: ROS_DOMAIN_ID;" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--robot", "igris_x"), "--robot igris_x: unknown robot"),
        (("--io", "dds"), "the following arguments are required: --robot"),
        (("--robot", "igris_b", "--jsn"), "unrecognized arguments: --jsn"),
    ],
)
def test_a_mistake_ends_with_a_sentence(arguments: tuple[str, ...], complaint: str) -> None:
    done = run_module("rt.doctor", *arguments, env=ENV)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_it_is_the_run_that_is_meant_that_is_looked_at() -> None:
    arguments = ("--robot", "igris_b", "--set", "num_img_obs=10000", "--set", "img_obs_every=10000")
    done = run_module("rt.doctor", *arguments, "--json", env=ENV)
    assert done.returncode == 1
    missing = {row["name"] for row in json.loads(done.stdout) if not row["ok"] and row["required"]}
    assert "/dev/shm" in missing


def test_the_table_says_what_is_required() -> None:
    rows = [
        Row(name="a", found="1", ok=True, required=True, remedy="mend a"),
        Row(name="b", found="2", ok=False, required=True, remedy="mend b"),
        Row(name="c", found="3", ok=False, remedy="mend c"),
    ]
    lines = [line.split() for line in render(rows).splitlines()]
    assert lines[:5] == [
        ["ok", "a", "1"],
        *(["MISSING", "b", "2"], ["->", "mend", "b"]),
        *(["advised", "c", "3"], ["->", "mend", "c"]),
    ]
    assert render(rows).endswith("required and missing: b; advised: 1")


# --- a check that fails


def test_a_check_that_fails_is_a_row() -> None:
    def odd_thing(_: Subject) -> Iterator[Row]:
        raise OSError("the file bites")
        yield

    row = only(iter(rows_of(odd_thing, Subject(None, {}))))
    assert (row.name, row.ok) == ("odd thing", False)
    assert row.found == "cannot be checked: OSError: the file bites"


def test_no_check_fails_on_a_machine_without_files(tmp_path: Path, config: Config) -> None:
    subject = Subject(config, {}, root=tmp_path)
    for check in CHECKS:
        assert all(isinstance(row, Row) for row in rows_of(check, subject))


def test_a_child_that_hangs_is_given_up() -> None:
    with pytest.raises(AskError, match=r"no answer within 0\.3 s"):
        ask_python("import time; time.sleep(600)", timeout_s=0.3)


def test_a_child_that_fails_tells_its_last_line() -> None:
    with pytest.raises(AskError, match=r"^ValueError: so it is$"):
        ask_python("raise ValueError('so it is')", timeout_s=20)


# --- rights

TRIED = """
import msgspec, os
from rt.doctor.rights import limits, tried
from rt.doctor.row import Subject
subject = Subject(None, os.environ, require_rt=True)
print(msgspec.json.encode([*limits(subject), *tried(subject)]).decode())
"""


def test_without_rights_each_one_missing_is_named_with_its_remedy() -> None:
    drop = WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    command = ["prlimit", "--rtprio=0", "--memlock=65536", *drop, sys.executable, "-c", TRIED]
    rows = {row["name"]: row for row in json.loads(subprocess.check_output(command))}
    for name, found in (
        ("rtprio limit", "0"),
        ("memlock limit", "64 KiB"),
        ("memory lock", "asked all, got Cannot allocate memory"),
        ("scheduler", "asked SCHED_FIFO 45, got SCHED_OTHER 0 (Operation not permitted)"),
    ):
        assert rows[name]["found"] == found
        assert (rows[name]["ok"], rows[name]["required"]) == (False, True)
        assert rows[name]["remedy"]
    assert "rtprio 50" in rows["rtprio limit"]["remedy"]
    assert rows["garbage collector"]["ok"]


@pytest.mark.parametrize(
    ("rtprio", "memlock", "capabilities", "ok"),
    [
        (44, -1, 0, [False, True]),
        (45, -1, 0, [True, True]),
        (-1, 2**30, 0, [True, False]),
        (0, 0, 1 << 23, [True, False]),  # CAP_SYS_NICE
        (0, 0, 1 << 14, [False, True]),  # CAP_IPC_LOCK
    ],
)
def test_a_limit_is_compared_with_what_control_asks_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rtprio: int,
    memlock: int,
    capabilities: int,
    ok: list[bool],
) -> None:
    given = {resource.RLIMIT_RTPRIO: rtprio, resource.RLIMIT_MEMLOCK: memlock}
    monkeypatch.setattr(resource, "getrlimit", lambda number: (given[number],) * 2)
    status = f"CapPrm:\t{2**40 - 1:016x}\nCapEff:\t{capabilities:016x}\nCapBnd:\t0\n"
    rows = list(rights.limits(machine(tmp_path, {"proc/self/status": status})))
    assert [row.ok for row in rows] == ok


def test_nothing_is_tried_on_the_core_of_a_live_control() -> None:
    with Lock(unique_session("doctor"), "control"):
        row = only(rights.granted(Subject(None, {})))
    assert row.ok
    assert "not tried while" in row.found


# --- the kernel


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"proc/version": "Linux version 6.12.1-rt5 (x) #1 SMP PREEMPT_RT Mon"}, "PREEMPT_RT"),
        (
            {"proc/version": "Linux version 5.15.0 (x) #1 SMP", "sys/kernel/realtime": "1\n"},
            "PREEMPT_RT",
        ),
        ({"proc/version": "Linux version 6.8.0 (x) #1 SMP PREEMPT_DYNAMIC"}, "stock"),
        ({"proc/version": "Linux version 6.8.0 (x) #1", "sys/kernel/realtime": "0\n"}, "stock"),
    ],
)
def test_a_real_time_kernel_is_told_from_a_stock_one(
    tmp_path: Path, files: dict[str, str], found: str
) -> None:
    row = only(kernel.kernel(machine(tmp_path, files)))
    assert row.found == f"{files['proc/version'].split()[2]}, {found}"
    assert row.ok == (found == "PREEMPT_RT")


def test_a_slow_clock_is_told(tmp_path: Path) -> None:
    name = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert not only(kernel.clock_source(machine(tmp_path, {name: "hpet\n"}))).ok
    assert only(kernel.clock_source(machine(tmp_path, {name: "tsc\n"}))).ok


def test_throttling_that_is_off_is_told(tmp_path: Path) -> None:
    def look(runtime: int) -> Row:
        folder = "proc/sys/kernel/sched_rt_"
        files = {f"{folder}runtime_us": f"{runtime}\n", f"{folder}period_us": "1000000\n"}
        return only(kernel.throttling(machine(tmp_path, files)))

    assert (look(950_000).found, look(950_000).ok) == ("at 95 %", True)
    assert (look(-1).found, look(-1).ok) == ("off", False)


def test_every_core_s_governor_counts(tmp_path: Path) -> None:
    def look(*governors: str) -> Row:
        files = {
            f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor": f"{g}\n"
            for i, g in enumerate(governors)
        }
        return only(kernel.governor(machine(tmp_path, files)))

    assert look().ok
    assert look("performance", "performance").ok
    row = look("performance", "powersave")
    assert (row.ok, row.found) == (False, "performance, powersave")


def test_control_s_core_is_to_be_isolated_and_in_reach(tmp_path: Path) -> None:
    core = divide("last").control
    if core is None:
        pytest.skip("this process has one core")

    def look(isolated: str) -> Row:
        return only(kernel.cores(machine(tmp_path, {"sys/devices/system/cpu/isolated": isolated})))

    assert look(f"{core}\n").ok
    assert look(f"{core - 1}-{core}\n").ok
    nothing = look("\n")
    assert not nothing.ok
    assert f"isolcpus={core} nohz_full={core}" in nothing.remedy
    # isolcpus=900: the kernel keeps everybody off it, this process too.
    beyond = look("900\n")
    assert not beyond.ok
    assert "900 are isolated and out of reach" in beyond.found
    assert beyond.remedy.startswith("taskset -c 0-")


# --- the session


def test_what_a_session_needs_is_what_its_rings_take(config: Config) -> None:
    """Against the segments themselves, made."""
    name = unique_session("doctor")
    try:
        Session(name).create(ring_table(config))
        took = sum((SHM / segment).stat().st_size for segment in segments(name))
    finally:
        Session(name).clean()
    assert session.rings_bytes(with_io(config, "none")) == took
    assert session.rings_bytes(config) > took  # the simulator's own rings come on top


def test_too_little_shared_memory_is_told(config: Config) -> None:
    assert only(session.shared_memory(Subject(config, {}))).ok
    params = msgspec.structs.replace(config.params, num_img_obs=10_000, img_obs_every=10_000)
    row = only(session.shared_memory(Subject(msgspec.structs.replace(config, params=params), {})))
    assert (row.ok, row.required) == (False, True)
    assert row.remedy.startswith("sudo mount -o remount,size=")


def test_what_launch_would_refuse_is_told_in_its_words(config: Config) -> None:
    assert only(session.launch(Subject(config, {}))).ok
    row = only(session.launch(Subject(with_io(config, "dds"), {})))
    assert (row.ok, row.required) == (False, True)
    assert "trained_for" in row.found
    assert row.remedy.startswith("mend what that names")


def test_a_living_fake_robot_is_what_launch_would_drive() -> None:
    with Fake() as fake:
        env = ENV | {"ROS_DOMAIN_ID": str(fake.domain)}
        who = ("--robot", "igris_b", "--set", f"topics.robot_id={fake.robot_id}")
        done = run_module("rt.doctor", *who, "--io", "dds", "--json", env=env)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["launch"]["found"] == "igris_b, --io dds, the fake one: nothing against it"
    assert not [name for name in rows if name.startswith("camera")]
    assert done.returncode == 0


def test_each_camera_is_looked_for(tmp_path: Path, config: Config) -> None:
    real = with_io(config, "dds")
    present = real.robot.cameras[real.params.camera_names[0]].source
    subject = machine(tmp_path, {present.lstrip("/"): ""})._replace(config=real)
    rows = list(session.cameras(subject))
    assert [row.name for row in rows] == [f"camera {name}" for name in real.params.camera_names]
    assert [row.ok for row in rows] == [True, False, False]
    assert all(row.required for row in rows)
    assert "but nothing is there" in rows[1].found
    assert "there is no camera" in rows[1].remedy
    assert not list(session.cameras(Subject(config, {})))  # simulated views need no device


ASK_ABOUT = """
import sys, msgspec
from rt.config.load import load_config
from rt.doctor import session
from rt.doctor.row import Subject
from rt.launcher.options import parse
config = load_config(parse(["--robot", "igris_b", "--io", "dds"])).config
name, path = config.params.camera_names[0], sys.argv[1]
head = msgspec.structs.replace(config.robot.cameras[name], source=path)
robot = msgspec.structs.replace(config.robot, cameras=config.robot.cameras | {name: head})
row = next(session.cameras(Subject(msgspec.structs.replace(config, robot=robot), {})))
print(row.ok, row.found)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up rights of root's")
@pytest.mark.parametrize(("mode", "ok"), [(0o600, True), (0o400, False), (0, False)])
def test_a_camera_must_be_ours_to_read_and_to_write(mode: int, ok: bool) -> None:
    leader, follower = os.openpty()
    try:
        device = os.ttyname(follower)
        Path(device).chmod(mode)
        not_almighty = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        done = subprocess.run(
            [*not_almighty, sys.executable, "-c", ASK_ABOUT, device],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(leader)
        os.close(follower)
    why = "" if ok else ", but it may not be used"
    assert done.stdout.strip() == f"{ok} {device}{why}"


def test_what_died_is_told_apart_from_what_lives() -> None:
    dead, live = unique_session("dead"), unique_session("live")
    dtype = np.dtype([("x", "f8")])
    try:
        Ring.create(f"/rt.{dead}.tick", dtype, slots=2, session=dead).close()
        with Lock(live, "supervisor"):
            row = only(session.leftovers(Subject(None, {})))
        assert not row.ok
        assert dead in row.found.split(", ")
        assert live not in row.found.split(", ")
        assert row.remedy == "python -m rt.inspect --clean"
    finally:
        Session(dead).clean()


@pytest.mark.parametrize(
    ("uid", "files", "ok"),
    [
        (1000, {}, True),  # no systemd
        (1000, {"run/systemd/system/x": ""}, False),
        (999, {"run/systemd/system/x": ""}, True),
        (1000, {"run/systemd/system/x": "", "var/lib/systemd/linger/ann": ""}, True),
        (1000, {"run/systemd/system/x": "", "var/lib/systemd/linger/bob": ""}, False),
        (1000, {"run/systemd/system/x": "", "etc/systemd/logind.conf": "RemoveIPC=no\n"}, True),
        (1000, {"run/systemd/system/x": "", "etc/systemd/logind.conf": "#RemoveIPC=no\n"}, False),
        (
            1000,
            {
                "run/systemd/system/x": "",
                "etc/systemd/logind.conf": "RemoveIPC=no\n",
                "etc/systemd/logind.conf.d/a.conf": "[Login]\nRemoveIPC = yes\n",
            },
            False,
        ),
    ],
)
def test_what_a_logout_would_remove_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, files: dict[str, str], ok: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    row = only(session.logout(machine(tmp_path, files)._replace(env={"USER": "ann"})))
    assert row.ok == ok
    assert row.remedy == "sudo loginctl enable-linger ann"


def test_a_torch_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "GPU", "import no_such_torch")
    row = only(software.gpu(Subject(None, {})))
    assert (row.ok, row.required) == (False, True)
    assert "No module named 'no_such_torch'" in row.found


# --- deploy/


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy/rt.service").read_text()
    assert "KillMode=mixed" in unit
    assert "\nCPUSchedulingPolicy" not in unit
    here = tmp_path / "rt.service"
    # It is right for a machine that has it installed.
    here.write_text(unit.replace("/opt/rt/.venv/bin/python", "/bin/sh"))
    command = ["systemd-analyze", "verify", str(here)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "rt.service" in line] == []
    assert done.returncode == 0


# --- ROS 2 and DDS


def ros_subject(config: Config, io: str, root: Path = Path("/"), **env: str) -> Subject:
    return Subject(with_io(config, io), env, root=root)


def test_ros_is_required_only_where_it_is_asked_for(tmp_path: Path, config: Config) -> None:
    (tmp_path / "opt/ros/jazzy").mkdir(parents=True)
    asked = only(ros.ros_2(ros_subject(config, "ros2", tmp_path)))
    assert (asked.ok, asked.required) == (False, True)
    assert asked.remedy == "source /opt/ros/jazzy/setup.bash"
    assert only(ros.ros_2(ros_subject(config, "dds", tmp_path))).ok


@pytest.mark.parametrize(
    ("distro", "ours", "remedy"),
    [
        ("humble", (3, 11), "use --io dds"),
        ("jazzy", (3, 11), "/usr/bin/python3.12 -m venv --system-site-packages"),
        ("kilted", (3, 13), "/usr/bin/python3.12 -m venv --system-site-packages"),
        ("lyrical", (3, 12), "/usr/bin/python3.14 -m venv --system-site-packages"),
    ],
)
def test_a_distribution_for_another_python_is_told(
    config: Config, distro: str, ours: Any, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (*ours, 0))
    row = only(ros.ros_2(ros_subject(config, "ros2", ROS_DISTRO=distro)))
    assert (row.ok, row.required) == (False, True)
    assert row.remedy.startswith(remedy)


def test_a_distribution_without_its_rclpy_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ros, "IMPORT", "import no_such_rclpy")
    row = only(ros.ros_2(ros_subject(config, "ros2", ROS_DISTRO="rolling")))
    assert not row.ok
    assert "No module named 'no_such_rclpy'" in row.found


def test_the_middleware_is_looked_for(tmp_path: Path, config: Config) -> None:
    library = tmp_path / "lib/librmw_cyclonedds_cpp.so"
    library.parent.mkdir()
    library.touch()
    sourced = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": f"/nowhere:{tmp_path}"}

    def look(io: str, **env: str) -> Row:
        return only(ros.rmw_implementation(ros_subject(config, io, **env)))

    assert look("ros2").ok
    assert look("ros2", RMW_IMPLEMENTATION="rmw_cyclonedds_cpp", **sourced).ok
    absent = look("ros2", RMW_IMPLEMENTATION="rmw_fastrtps_cpp", **sourced)
    assert (absent.ok, absent.required) == (False, True)
    assert absent.remedy.startswith("sudo apt install ros-jazzy-rmw-fastrtps-cpp")
    assert not look("dds", RMW_IMPLEMENTATION="rmw_zenoh_cpp").ok
    assert look("ros2", RMW_IMPLEMENTATION="rmw_zenoh_cpp").ok


@pytest.mark.parametrize(
    ("text", "ok", "required"),
    [
        *((text, True, False) for text in ("", "0", "101", "215", "232")),
        *((text, False, False) for text in ("102", "214")),
        *((text, False, True) for text in ("233", "-1", "1.5", "0x1", " 7")),
    ],
)
def test_a_domain_is_a_number_that_has_ports(text: str, ok: bool, required: bool) -> None:
    row = only(ros.ros_domain_id(Subject(None, {"ROS_DOMAIN_ID": text})))
    assert (row.ok, row.required) == (ok, required)


XML = "<CycloneDDS><Domain Id='any'/></CycloneDDS>"


@pytest.mark.parametrize(
    ("uri", "ok"),
    [
        *((text, True) for text in ("", XML, "<Tracing/><General/>", "{good}", "file://{good}")),
        ("{good},file://{good}", True),
        *((text, False) for text in ("<Domain>", "{bad}", "{good},{bad}", "file:///no/such")),
    ],
)
def test_what_dds_is_configured_with_is_read(
    tmp_path: Path, config: Config, uri: str, ok: bool
) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_text('<?xml version="1.0" encoding="UTF-8" ?>\n' + XML)
    bad.write_text("<CycloneDDS>")
    uri = uri.format(good=good, bad=bad)
    row = only(ros.cyclonedds_uri(ros_subject(config, "dds", CYCLONEDDS_URI=uri)))
    assert (row.ok, row.required) == (ok, True)


def test_every_extra_installs_what_is_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, modules in EXTRAS.items():
        packages = project["optional-dependencies"][extra]
        names = {re.split(r"[^a-z\[\]-]", package)[0] for package in packages}
        assert names == set(modules.values()), extra
