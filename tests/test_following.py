"""The following guard: a robot that is blocked, let go or moved by hand never makes a jump."""

from __future__ import annotations

from typing import Any

import numpy as np
from making import Simulate

from rt.config import JointGroup
from rt.records import Hold, Order, Phase, text
from rt.testing import FakeClock, FakeRobot, ScriptedPolicy, SimulatedRun, config

RELEASE_TICKS = 10  # 0.5 s at 20 Hz
ARM = JointGroup(
    name="arm",
    lower_deg=(-90, -90),
    upper_deg=(90, 90),
    max_delta_deg=3,
    max_following_error_deg=10,
)


def sway(number: int, chunk: Any) -> Any:
    chunk[:] = 0.4 * np.sin(number + np.arange(len(chunk)) / 3)[:, None]
    return chunk


def executing(simulate: Simulate, *groups: JointGroup, **options: Any) -> SimulatedRun:
    cfg = config(groups or (ARM,), **options)
    clock = FakeClock()
    run: SimulatedRun = simulate(
        cfg,
        clock=clock,
        robot=FakeRobot(np.zeros(cfg.params.action_dim), clock=clock),
        policy=ScriptedPolicy(action_chunk_size=8, action_dim=cfg.params.action_dim, script=sway),
        delay=lambda n: 1.5,
    )
    run.tick(3)
    run.order(Order.GO)
    while run.tick()["row"] < 0:
        assert len(run.ticks) < 200
    return run


def move_by_hand(run: SimulatedRun, pose_rad: float) -> Any:
    """The robot is somewhere else and stays there; the tick that sees it."""
    run.robot.share = 0.0
    run.robot.position[:] = pose_rad
    return run.tick()


def largest_step(run: SimulatedRun) -> float:
    commands = np.array([s.command for s in run.robot.sent])
    return float(np.abs(np.diff(commands, axis=0)).max())


def test_it_yields_to_where_it_was_measured_and_stays_there(simulate: Simulate) -> None:
    run = executing(simulate, following_release_s=60)
    record = move_by_hand(run, 1.0)
    assert record["hold"] == Hold.NOT_FOLLOWING
    assert record["chunk"] == -1
    for i in range(30):
        run.robot.position[:] = 1.0 - 0.004 * i  # it sinks, within the limit
        record = run.tick()
    assert (record["command"] == 1.0).all(), "not after it: it would follow it to the ground"
    assert largest_step(run) <= np.deg2rad(3) * (1 + 1e-12)


def test_a_joint_without_an_initial_pose_is_not_taken_back_to_where_it_was(
    simulate: Simulate,
) -> None:
    stays = JointGroup(name="stays", lower_deg=(-90,), upper_deg=(90,), max_following_error_deg=10)
    goes = JointGroup(name="goes", lower_deg=(-90,), upper_deg=(90,), initial_deg=(80,))
    clock = FakeClock()
    robot = FakeRobot([0.0, 0.0], clock=clock)
    run: SimulatedRun = simulate(config((stays, goes)), robot=robot, clock=clock)
    run.tick(5)
    assert run.ticks[-1]["phase"] == Phase.INITIAL_POSE
    robot.position[0] = 0.9
    robot.share = 0.0
    run.tick(30)
    robot.share = 1.0
    run.tick(10)
    assert run.ticks[-1]["phase"] == Phase.INITIAL_POSE
    assert run.ticks[-1]["command"][0] == 0.9


def test_nothing_is_planned_while_it_yields(simulate: Simulate) -> None:
    for algorithm in ("rtc", "sequential"):
        run = executing(simulate, algorithm=algorithm, following_release_s=60)
        move_by_hand(run, 1.0)
        planned = len(run.plans)
        run.tick(20)
        assert len(run.plans) <= planned + 1, algorithm


def test_it_says_which_joint_and_how_far(simulate: Simulate) -> None:
    run = executing(simulate)
    run.robot.position[1] += 1.0
    run.robot.share = 0.0
    why = text(run.tick()["why"])
    error = np.rad2deg(abs(run.robot.position[1] - run.ticks[-2]["command"][1]))
    assert why == f"arm[1] is {error:.0f} deg from its command (limit 10)"
    run.tick(10)
    run.robot.share = 1.0
    run.tick(30)
    assert run.ticks[-1]["hold"] == Hold.NONE
    assert text(run.ticks[-1]["why"]) == ""


def test_it_goes_on_by_itself_with_a_chunk_of_what_it_sees_then(simulate: Simulate) -> None:
    run = executing(simulate)
    tripped = move_by_hand(run, 0.8)
    while run.tick()["hold"] == Hold.NOT_FOLLOWING:
        assert len(run.ticks) < 200
    released = run.ticks[-1]
    there = next(
        r for r in run.ticks if r["tick"] >= tripped["tick"] and (r["command"] == 0.8).all()
    )
    assert released["tick"] - there["tick"] == RELEASE_TICKS
    assert released["hold"] == Hold.NO_CHUNK
    assert released["valid_from_tick"] == released["tick"]
    run.robot.share = 1.0
    while run.tick()["row"] < 0:
        assert len(run.ticks) < 300
    used = run.chunks[int(run.ticks[-1]["chunk"])]
    assert used["obs_tick"] >= released["tick"]
    assert largest_step(run) <= np.deg2rad(3) * (1 + 1e-12)


def test_moved_again_it_yields_again(simulate: Simulate) -> None:
    run = executing(simulate, following_release_s=2)
    move_by_hand(run, 0.8)
    run.tick(30)
    assert (run.ticks[-1]["command"] == 0.8).all()
    move_by_hand(run, -0.5)
    run.tick(30)
    assert (run.ticks[-1]["command"] == -0.5).all()
    assert run.ticks[-1]["hold"] == Hold.NOT_FOLLOWING, "the time starts anew"


def test_moved_out_of_its_position_limits_it_yields_to_the_limit(simulate: Simulate) -> None:
    run = executing(simulate)
    move_by_hand(run, np.deg2rad(95))
    run.tick(35)
    held = [r for r in run.ticks if r["hold"] == Hold.NOT_FOLLOWING]
    np.testing.assert_allclose(held[-1]["command"], np.deg2rad(90))
    assert run.tick(20)["tick"] > held[-1]["tick"], "which is near enough to go on from"
    assert any(r["hold"] == Hold.NO_CHUNK for r in run.ticks if r["tick"] > held[0]["tick"])
    assert max(s.command.max() for s in run.robot.sent) <= np.deg2rad(90)


def test_each_group_has_its_own_limit_and_one_without_is_not_watched(simulate: Simulate) -> None:
    loose = JointGroup(name="hand", lower_deg=(-90,), upper_deg=(90,), max_delta_deg=3)
    run = executing(simulate, ARM, loose)
    run.robot.position[2] += 1.0
    run.robot.share = 0.0
    assert run.tick()["hold"] == Hold.NONE
    run.robot.position[0] += 1.0
    assert run.tick()["hold"] == Hold.NOT_FOLLOWING


def test_a_gated_robot_waits_for_another_go(simulate: Simulate) -> None:
    run = executing(simulate, io="dds")
    number = int(run.ticks[-1]["episode"])
    record = move_by_hand(run, 0.8)
    assert (record["phase"], record["hold"]) == (Phase.WAITING, Hold.NOT_FOLLOWING)
    index = run.order(Order.GO)
    assert run.tick()["command_index"] == index
    assert run.ticks[-1]["phase"] == Phase.WAITING, "refused while it does not follow"
    run.tick(100)
    assert run.ticks[-1]["hold"] == Hold.WAITING
    assert text(run.ticks[-1]["why"]).startswith("for rt.command go, since arm[0] is ")
    assert (run.ticks[-1]["command"] == 0.8).all()
    run.robot.share = 1.0
    run.order(Order.GO)
    record = run.tick()
    assert (record["phase"], record["episode"]) == (Phase.RUN, number), "on with its episode"
    assert record["hold"] == Hold.NO_CHUNK
    run.tick(10)
    assert run.ticks[-1]["hold"] == Hold.NONE
    assert largest_step(run) <= np.deg2rad(3) * (1 + 1e-12)


def test_moved_in_a_pause_it_yields_then_too(simulate: Simulate) -> None:
    run = executing(simulate)
    run.order(Order.PAUSE)
    run.tick(3)
    record = move_by_hand(run, 0.8)
    assert (record["phase"], record["hold"]) == (Phase.PAUSED, Hold.NOT_FOLLOWING)
    run.tick(40)
    assert (run.ticks[-1]["command"] == 0.8).all()
    assert run.ticks[-1]["hold"] == Hold.PAUSED


def test_a_time_without_a_measurement_is_no_time_of_following(simulate: Simulate) -> None:
    run = executing(simulate)
    move_by_hand(run, 0.1)
    run.robot.position[:] = 0.8
    run.tick(20)  # commanded there now
    run.robot.reading = "none"
    run.tick(RELEASE_TICKS + 5)
    run.robot.reading = "fresh"
    assert run.tick()["hold"] == Hold.NOT_FOLLOWING
