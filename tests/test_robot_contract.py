"""What docs/add_a_robot.md says that every driver promises, asked of every backend there is."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from contract.cases import CASES, Case, Rig, now_and_then
from guide import write_guide
from launched import PATIENCE_S, ROOT
from test_imports import HEAVY, imported_by

from rt import clock
from rt.config import encode_config
from rt.config.load import configs_folder, load_config
from rt.errors import RobotError
from rt.launcher.children import ONE_THREAD
from rt.launcher.options import parse
from rt.robots.robot import Robot, State, resolve

Open = Callable[..., Rig]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
READS = 200
LAIN_S = 0.2


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_guide(tmp_path_factory.mktemp("guide"))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def rig(request: pytest.FixtureRequest, guide: Path) -> Iterator[Open]:
    """`rig(state_timeout_s=1)`: the case's robot, not playing yet, its driver not yet open."""
    case: Case = request.param
    if case.package:
        pytest.importorskip(case.package)
    with contextlib.ExitStack() as rigs:
        yield lambda **facts: rigs.enter_context(Rig(case, guide, **facts))


def pose(rig: Rig, number: int) -> Vector:
    """A different position for every joint and every number; none of them is a float32."""
    return (number + np.arange(rig.joints) / 100) / 10


def started(rig: Rig, number: int = 1) -> Robot:
    """The driver, with the robot at `pose(number)`."""
    rig.start_robot(pose(rig, number))
    robot = rig.open()
    robot.start_state_readers()
    if not rig.case.missing:  # the simulator is waited for by the session
        rig.read_until("the first state", robot, lambda state: state.t_capture)
    return robot


def is_at(rig: Rig, number: int) -> Callable[[State], bool]:
    expected = rig.measured(pose(rig, number))
    return lambda state: bool((state.position == expected).all())


def test_a_robot_that_is_not_there_is_named(rig: Open) -> None:
    there = rig(state_timeout_s=0.3)
    robot = there.open()
    if there.case.missing:
        with pytest.raises(RobotError, match=there.case.missing) as caught:
            robot.start_state_readers()
        assert "\n" not in str(caught.value)
    else:
        robot.start_state_readers()
    state = robot.read_state()
    assert state.t_capture == 0
    assert state.late
    assert not state.fault
    robot.shutdown()


def test_the_state_is_the_newest_in_the_robots_order_and_as_old_as_it_is(rig: Open) -> None:
    there = rig(state_latency_ms=40)
    robot = started(there)
    assert is_at(there, 1)(robot.read_state())
    there.wait_for_more(40)  # which nobody reads
    told = clock.now_ns()
    there.tell(position=pose(there, 2).tolist())
    for _ in range(20):  # far fewer than there are messages
        time.sleep(0.01)
        state = robot.read_state()
        if is_at(there, 2)(state):
            break
    assert is_at(there, 2)(state)
    latency_ns = 40_000_000 if there.case.missing else 0  # what simulates knows its time
    assert told - latency_ns < state.t_capture < clock.now_ns() - latency_ns
    assert not state.fault
    captures = now_and_then(there, robot, 5)
    assert captures == sorted(captures)
    robot.shutdown()


def test_an_action_arrives_in_the_robots_order_to_the_bit_and_is_held(rig: Open) -> None:
    there = rig()
    robot = started(there)
    there.until("the robot to hear", lambda: there.matched)
    for _ in range(3):
        robot.hold()
    there.wait_for_more(10)  # and it would have heard
    assert there.commands == []  # what was never commanded is not held
    for number in (3, 4):
        action = pose(there, number)
        robot.publish_action(action)
        action.fill(np.nan)  # it is control's own, and the driver has no say over it any more
        expected = there.sent(pose(there, number))
        there.until("an action to arrive", lambda: expected in there.commands)  # noqa: B023
    messages = len(there.commands) // 2  # of one action
    assert there.commands[messages - 1] == there.sent(pose(there, 3))
    assert there.commands[-1] == there.sent(pose(there, 4))
    robot.read_state()  # one that was not heard of may be left alone
    robot.hold()
    there.until("the same again", lambda: len(there.commands) == 3 * messages)
    assert there.commands[-messages:] == [there.sent(pose(there, 4))] * messages
    robot.shutdown()


def test_a_robot_that_falls_silent_is_missed_and_may_come_back(rig: Open) -> None:
    there = rig()
    robot = started(there)
    now_and_then(there, robot, 20)
    there.wait_for_more(10)  # which lie about, unread
    t_frozen = there.freeze_robot()
    time.sleep(LAIN_S)
    old = robot.read_state()
    assert t_frozen - LAIN_S * 1e9 < old.t_capture < t_frozen + LAIN_S / 2 * 1e9
    there.kill_robot()
    waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for _ in range(READS):
        state = robot.read_state()
        robot.hold()
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - waits < READS / 4  # no read waits
    assert state.t_capture == old.t_capture
    assert state.late
    t_back = clock.now_ns()
    there.start_robot(pose(there, 5))
    state = there.read_until("the robot to be back", robot, is_at(there, 5))
    assert t_back < state.t_capture < clock.now_ns()
    there.read_until("its twin to be forgotten", robot, lambda state: not state.fault)

    def arrived() -> bool:
        robot.publish_action(pose(there, 6))
        return there.sent(pose(there, 6)) in there.commands

    there.until("an action to arrive", arrived)
    robot.shutdown()


def test_a_driver_has_no_python_thread_and_starts_none_late_and_leaves_nothing(rig: Open) -> None:
    there = rig()
    there.start_robot(pose(there, 1))
    driver = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "contract" / "driven.py")],
        input=encode_config(there.config),
        capture_output=True,
        timeout=PATIENCE_S,
        env=os.environ | ONE_THREAD,
    )
    assert driver.returncode == 0, driver.stderr.decode()
    found = json.loads(driver.stdout)
    assert found["python_threads"] == 1
    assert found["tasks_ticked"] <= found["tasks_started"]
    assert found["tasks_after"] == found["tasks_before"]
    assert found["files_after"] == found["files_before"]
    own = f"/dev/shm/rt.{there.session.name}."
    assert [name for name in found["shm"] if not name.startswith(own)] == []
    assert set(found["modules"]) & (HEAVY - {there.case.package}) == set()


def test_every_backend_of_every_robot_is_asked(guide: Path) -> None:
    there_are = set()
    for folder in [*(configs_folder() / "robots").iterdir(), *guide.iterdir()]:
        config = load_config(parse(["--robot", str(folder)])).config
        driver = resolve(":BACKENDS", config)
        there_are |= {f"{folder.name}-{io}" for io in driver}
    asked = {case.name for case in CASES}
    assert asked <= there_are
    assert there_are - asked == {"seven_ros-ros2"}  # the same class as igris_b's


@pytest.mark.parametrize(
    "module", ["rt.control.process", "rt.robots.igris_b", "rt.robots.igris_c", "rt.robots.topics"]
)
def test_naming_the_backends_imports_none_of_their_libraries(module: str) -> None:
    assert imported_by(module) & (HEAVY | {"cyclonedds"}) == set()
