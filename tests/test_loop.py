"""The control tick: whatever happens, what is sent is finite, limited and accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import Simulate
from oracle import check_ticks

from rt.config import JointGroup
from rt.control.process import hold_at_last
from rt.errors import ConfigError
from rt.infer.policy import Policy
from rt.records import Hold, Order, Phase, text
from rt.testing import (
    TWO_ARMS,
    WIDE_OPEN,
    FakeClock,
    FakeRobot,
    ScriptedPolicy,
    SimulatedRun,
    config,
)
from rt.testing.fakes import Reading

FAR = JointGroup(name="arm", lower_deg=(10, 10), upper_deg=(120, 120), max_delta_deg=3)


def executing(simulate: Simulate, *groups: JointGroup, **options: Any) -> SimulatedRun:
    """A run in its first episode, executing a chunk."""
    cfg = config(groups or (WIDE_OPEN,), **options)
    clock = FakeClock()
    robot = FakeRobot(np.maximum(0, cfg.lower_rad), clock=clock)
    run: SimulatedRun = simulate(cfg, delay=lambda n: 1.5, robot=robot, clock=clock)
    while run.tick()["row"] < 0:
        assert len(run.ticks) < 1000, "it executes nothing"
    return run


def check_sent(run: SimulatedRun) -> None:
    """Every command sent is finite, within the limits, and one slew step from the one before."""
    cfg = run.config
    lower, upper, step = cfg.lower_rad, cfg.upper_rad, cfg.max_delta_rad_per_tick
    assert run.robot.sent
    first = run.robot.sent[0]
    last = next(r["state"] for r in run.ticks if r["tick"] == first.tick)
    for sent in run.robot.sent:
        assert np.isfinite(sent.command).all()
        assert (lower <= sent.command).all()
        assert (sent.command <= upper).all()
        assert (last - step <= sent.command).all(), f"tick {sent.tick}"
        assert (sent.command <= last + step).all(), f"tick {sent.tick}"
        if sent.held:
            np.testing.assert_array_equal(sent.command, last)
        last = sent.command


# The nasty run.


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_what_is_sent_is_finite_limited_and_one_step_from_the_last(
    simulate: Simulate, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    cfg = config(TWO_ARMS, max_state_age_ms=120, episode_ticks=150, ticks_per_row=2)
    clock = FakeClock()
    pose = np.where(np.isnan(cfg.initial_rad), 0.5, cfg.initial_rad + 0.1)

    def script(number: int, chunk: Any) -> Any:
        kind = rng.integers(6)
        if kind == 0:
            chunk[rng.integers(len(chunk)), rng.integers(24)] = rng.choice([np.nan, np.inf])
        elif kind == 1:
            chunk[:] = rng.choice([-1e6, 1e6, 3e38], chunk.shape)
        elif kind == 2:
            return chunk[1:]
        else:
            chunk[:] = rng.uniform(-1, 1, chunk.shape)
        return chunk

    run: SimulatedRun = simulate(
        cfg,
        clock=clock,
        robot=FakeRobot(pose, clock=clock, share=0.4),
        policy=ScriptedPolicy(action_chunk_size=8, action_dim=24, script=script),
        delay=lambda n: rng.uniform(0, 12),
        busy=lambda k: rng.choice([0, 2.5], p=[0.97, 0.03]),
    )
    methods = ["read_state", "publish_action", "hold", "succeeded", "prepare_episode"]
    for _ in range(1500):
        if rng.random() < 0.05:
            run.robot.reading = rng.choice(["fresh", "none", "stale", "nan", "raise"])
        elif rng.random() < 0.3:
            run.robot.reading = "fresh"
        broken = rng.random() < 0.05
        run.robot.raising = set(rng.choice(methods, 2)) if broken else set()
        run.robot.success = rng.random() < 0.005
        if rng.random() < 0.04:
            paused = bool(run.ticks) and run.ticks[-1]["phase"] == Phase.PAUSED
            order = rng.choice([Order.PAUSE, Order.NEXT_EPISODE, Order.SUCCESS, Order.PROMPT])
            run.order(Order.RESUME if paused else order)
        run.tick()
    check_sent(run)
    last = run.ticks[-1]
    assert {Hold(r["hold"]) for r in run.ticks} >= {
        Hold.NONE,
        Hold.NO_CHUNK,
        Hold.NO_STATE,
        Hold.NOT_FINITE,
        Hold.PAUSED,
    }
    assert last["episodes"] > 3
    assert last["robot_faults"] > 20
    assert last["not_finite"] == sum(r["hold"] == Hold.NOT_FINITE for r in run.ticks)
    uncounted = (Hold.NONE, Hold.PAUSED, Hold.STOPPED)
    assert last["holds"] == sum(r["hold"] not in uncounted for r in run.ticks)


# Limits, through the loop.


def test_the_first_command_starts_from_the_measured_pose(simulate: Simulate) -> None:
    pose = np.deg2rad([50, 60])
    clock = FakeClock()
    run = simulate(config((FAR,)), robot=FakeRobot(pose, clock=clock), clock=clock)
    record = run.tick()
    np.testing.assert_array_equal(run.robot.sent[0].command, pose)
    assert record["limited"] == 0
    run.tick(30)
    check_sent(run)


def test_from_outside_the_limits_it_comes_in_under_the_slew_limit(simulate: Simulate) -> None:
    clock = FakeClock()
    robot = FakeRobot([0.0, 0.0], clock=clock)
    run = simulate(config((FAR,), limit_margin_deg=90.0), robot=robot, clock=clock)
    run.tick(30)
    commands = np.array([[0.0, 0.0]] + [s.command for s in run.robot.sent])
    assert np.abs(np.diff(commands, axis=0)).max() <= np.deg2rad(3) * (1 + 1e-12)
    assert (commands[-1] >= np.deg2rad(10)).all()
    assert (np.diff(commands, axis=0) >= 0).all(), "never away from the limits"


def test_a_jump_is_slewed_and_counted_and_the_target_recorded(simulate: Simulate) -> None:
    run = executing(simulate, FAR)
    before, record = run.ticks[-2], run.ticks[-1]
    assert record["limited"] == 2
    np.testing.assert_allclose(record["target"], [1000, 1000.01])
    np.testing.assert_allclose(record["command"], before["command"] + np.deg2rad(3))
    assert before["limited"] == 0


def test_the_slew_limit_is_per_row_whatever_the_ticks_per_row(simulate: Simulate) -> None:
    run = executing(simulate, FAR, ticks_per_row=5)
    run.tick(5)
    moved = run.ticks[-1]["command"] - run.ticks[-6]["command"]
    np.testing.assert_allclose(moved, np.deg2rad(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_held_and_counted(simulate: Simulate, bad: float) -> None:
    def script(number: int, chunk: Any) -> Any:
        if number == 2:
            chunk[4] = bad
        return chunk

    policy = ScriptedPolicy(action_chunk_size=8, action_dim=2, script=script)
    run = simulate(config(), policy=policy, delay=lambda n: 1.5)
    run.tick(40)
    check_ticks(run)
    held = [i for i, r in enumerate(run.ticks) if r["hold"] == Hold.NOT_FINITE]
    assert held
    assert run.ticks[-1]["not_finite"] == len(held)
    for i in held:
        np.testing.assert_array_equal(run.ticks[i]["command"], run.ticks[i - 1]["command"])
        np.testing.assert_array_equal(run.ticks[i]["target"], run.ticks[i]["command"])
        assert run.robot.sent[i].held


def test_a_hold_is_never_zeros(simulate: Simulate) -> None:
    run = simulate(config(), delay=lambda n: 1.5 if n == 1 else 100.5)
    run.tick(100)
    held = [r for r in run.ticks if r["hold"] == Hold.EXPIRED]
    assert len(held) > 20
    for record in held:
        np.testing.assert_allclose(record["command"], [1007, 1007.01])
    assert run.ticks[-1]["holds"] == sum(r["hold"] != 0 for r in run.ticks if r["phase"] == 1)


# The robot's state.


@pytest.mark.parametrize("reading", ["none", "ahead", "nan", "raise"])
def test_without_a_state_it_holds_what_it_sent_last(simulate: Simulate, reading: Reading) -> None:
    run = executing(simulate)
    before = run.ticks[-1]
    run.robot.reading = reading
    record = run.tick()
    assert record["hold"] == Hold.NO_STATE
    np.testing.assert_array_equal(record["command"], before["command"])
    np.testing.assert_array_equal(record["state"], before["state"], "the last one known")
    assert record["t_state"] == before["t_state"]
    assert run.robot.sent[-1].held
    assert record["robot_faults"] == (reading in ("nan", "raise"))
    assert record["holds"] == before["holds"] + 1
    run.robot.reading = "fresh"
    record = run.tick()
    assert record["hold"] == Hold.NONE, "and it goes on by itself"
    check_ticks(run)


def test_a_state_is_used_until_it_is_too_old(simulate: Simulate) -> None:
    run = executing(simulate, max_state_age_ms=120)
    run.robot.reading = "stale"
    holds = [Hold(run.tick()["hold"]) for _ in range(4)]
    assert holds == [Hold.NONE, Hold.NONE, Hold.NO_STATE, Hold.NO_STATE], "50, 100, 150, 200 ms"
    assert run.ticks[-1]["robot_faults"] == 0, "an old state is not the driver's fault"


def test_a_robot_that_was_never_commanded_is_left_as_it_is(simulate: Simulate) -> None:
    run = simulate(config())
    run.robot.reading = "none"
    run.tick(10)
    run.order(Order.PAUSE)
    run.tick(5)
    assert run.robot.sent == []
    run.loop.stopping = True
    run.tick()
    assert run.robot.sent == []
    assert all(np.isnan(r["command"]).all() for r in run.ticks), "rather than zeros"


# The driver's faults.


@pytest.mark.parametrize("method", ["read_state", "publish_action", "succeeded"])
def test_a_driver_that_raises_is_counted_and_never_ends_the_loop(
    simulate: Simulate, method: str
) -> None:
    run = executing(simulate)
    run.robot.raising = {method}
    run.tick(5)
    assert run.ticks[-1]["robot_faults"] == 5
    assert method in text(run.ticks[-1]["why"])
    run.robot.raising = set()
    run.tick()
    assert run.ticks[-1]["robot_faults"] == 5
    assert run.ticks[-1]["hold"] == Hold.NONE


def test_a_command_that_the_driver_refused_is_recorded_as_not_sent(simulate: Simulate) -> None:
    run = executing(simulate)
    before = run.ticks[-1]
    run.robot.raising = {"publish_action"}
    record = run.tick()
    assert record["hold"] == Hold.NOT_SENT
    assert record["row"] == -1
    assert record["holds"] == before["holds"] + 1
    np.testing.assert_array_equal(record["command"], before["command"])


def test_a_first_pose_far_outside_the_limits_is_never_commanded(simulate: Simulate) -> None:
    """A glitch, or degrees taken for radians, must not become the first command."""
    clock = FakeClock()
    robot = FakeRobot([57.0, 0.2], clock=clock)
    narrow = JointGroup(name="arm", lower_deg=(-90, -90), upper_deg=(90, 90))
    run = simulate(config((narrow,)), robot=robot, clock=clock)
    run.tick(5)
    assert robot.sent == []
    assert run.ticks[-1]["hold"] == Hold.OUT_OF_LIMITS
    assert run.ticks[-1]["holds"] == 5
    robot.position[:] = 0.1
    run.tick(2)
    assert np.abs(robot.sent[0].command - 0.1).max() <= run.config.max_delta_rad_per_tick.max()


def blocked(simulate: Simulate, **overrides: Any) -> SimulatedRun:
    """A robot that does not move, 1 rad from its initial pose."""
    clock = FakeClock()
    away = JointGroup(name="arm", lower_deg=(-90, -90), upper_deg=(90, 90), initial_deg=(0.0, 0.0))
    robot = FakeRobot([1.0, 1.0], clock=clock, share=0.0)
    run: SimulatedRun = simulate(config((away,), **overrides), robot=robot, clock=clock)
    run.tick(200)
    return run


def test_a_blocked_robot_has_not_arrived_where_it_was_commanded(simulate: Simulate) -> None:
    run = blocked(simulate)
    assert {int(r["phase"]) for r in run.ticks} == {Phase.INITIAL_POSE}
    assert run.robot.prepared == 0


def test_a_command_never_runs_far_ahead_of_a_blocked_robot(simulate: Simulate) -> None:
    run = blocked(simulate, max_following_error_deg=10.0)
    step = run.config.initial_delta_rad_per_tick.max()
    lead = max(np.abs(s.command - 1.0).max() for s in run.robot.sent)
    assert np.deg2rad(10) < lead <= np.deg2rad(10) + step
    assert run.ticks[-1]["hold"] == Hold.NOT_FOLLOWING


@pytest.mark.parametrize("method", ["hold", "prepare_episode"])
def test_a_driver_that_raises_between_episodes_is_counted_too(
    simulate: Simulate, method: str
) -> None:
    run = executing(simulate)
    run.robot.raising = {method}
    run.order(Order.NEXT_EPISODE)
    run.tick(6)
    run.order(Order.PAUSE)
    run.tick(2)
    assert run.ticks[-1]["robot_faults"] == {"hold": 3, "prepare_episode": 1}[method]


def test_the_slew_limit_counts_from_what_was_really_sent(simulate: Simulate) -> None:
    run = executing(simulate, FAR)
    sent = run.robot.sent[-1].command
    run.robot.raising = {"publish_action"}
    run.tick(10)
    run.robot.raising = set()
    run.tick()
    step = run.config.max_delta_rad_per_tick
    assert (run.robot.sent[-1].command <= sent + step).all(), "ten failed steps do not add up"
    check_sent(run)


def test_after_a_first_command_that_came_halfway_the_limits_stay_with_it(
    simulate: Simulate,
) -> None:
    clock = FakeClock()
    robot = FakeRobot([0.0, 0.0], clock=clock, share=0.0)
    arm = JointGroup(name="arm", lower_deg=(-90, -90), upper_deg=(90, 90), initial_deg=(50, 50))
    run = simulate(config((arm,)), robot=robot, clock=clock)
    robot.halfway = True
    run.tick()
    robot.halfway = False
    robot.position[:] = 1.0  # what was told first may not have been done yet
    run.tick(3)
    check_sent(run)


def test_a_command_that_came_halfway_counts_for_the_next(simulate: Simulate) -> None:
    run = executing(simulate, FAR)
    run.robot.halfway = True
    run.tick()
    assert run.ticks[-1]["hold"] == Hold.NOT_SENT
    before, told = (s.command for s in run.robot.sent[-2:])
    assert (told != before).any()
    run.robot.halfway = False
    run.order(Order.PAUSE)
    run.tick()
    assert not run.robot.sent[-1].held, "what the driver would repeat is not what we think"
    np.testing.assert_array_equal(run.robot.sent[-1].command, before)
    check_sent(run)


# Dry run.


def test_a_dry_run_computes_everything_and_sends_nothing(simulate: Simulate) -> None:
    run = executing(simulate, FAR, dry_run=True)
    run.tick(20)
    run.order(Order.PAUSE)
    run.tick(3)
    run.loop.stopping = True
    run.tick()
    assert run.robot.sent == []
    rows = [r for r in run.ticks if r["row"] >= 0]
    assert len(rows) > 10
    assert all(r["dry_run"] for r in run.ticks)
    for record in rows:
        assert record["target"][0] >= 1000
        np.testing.assert_array_equal(
            record["command"], record["state"] + run.config.max_delta_rad_per_tick
        )


def test_a_dry_run_does_not_wait_for_a_pose_that_is_never_reached(simulate: Simulate) -> None:
    run = simulate(config(TWO_ARMS, dry_run=True))
    run.tick(10)
    assert run.ticks[-1]["phase"] == Phase.RUN
    assert run.robot.sent == []


# The record.


def test_the_record_tells_when_and_what(simulate: Simulate) -> None:
    run = executing(simulate)
    for record in run.ticks:
        assert record["t_due"] == run.ticker.epoch_ns + record["tick"] * run.config.period_ns
        assert record["t_wake"] == record["t_due"]
        assert record["t_state"] == record["t_wake"]
        assert record["t_done"] > 0
    positions = [r["state"] for r in run.ticks[1:]]
    np.testing.assert_array_equal(positions, [r["command"] for r in run.ticks[:-1]])


def test_skipped_ticks_are_counted_and_rows_skipped_with_them(simulate: Simulate) -> None:
    run = simulate(config(), delay=lambda n: 1.5, busy=lambda k: 3.2 if k == 10 else 0.0)
    run.tick(20)
    check_ticks(run)
    numbers = [int(r["tick"]) for r in run.ticks]
    assert numbers == [*range(11), *range(14, 23)]
    assert [int(r["overruns"]) for r in run.ticks] == [0] * 11 + [3] * 9
    assert run.ticks[-1]["planning"] == 0
    before, after = run.ticks[10], run.ticks[11]
    assert (after["chunk"], after["row"]) == (before["chunk"], before["row"] + 4)


# The fakes themselves.


def test_the_scripted_policy_is_a_policy() -> None:
    assert isinstance(ScriptedPolicy(action_chunk_size=4, action_dim=2), Policy)


def test_a_fake_configuration_names_an_unknown_field() -> None:
    with pytest.raises(ConfigError, match=r"'action_chunk_sise': did you mean 'action_chunk_size'"):
        config(action_chunk_sise=4)


def test_a_lagging_robot_approaches_its_command() -> None:
    robot = FakeRobot([0.0], share=0.5)
    robot.publish_action(np.array([8.0]))
    seen = [float(robot.read_state().position[0]) for _ in range(3)]
    assert seen == [4, 6, 7]


def test_a_run_leaves_no_ring_behind() -> None:
    cfg = config()
    with SimulatedRun(cfg) as run:
        run.tick(3)
        assert list(Path("/dev/shm").glob(f"rt.{cfg.run.session}.*"))
    assert not list(Path("/dev/shm").glob(f"rt.{cfg.run.session}.*"))


# Under an acceleration bound.


def test_a_hold_brakes_before_it_stands_still(simulate: Simulate) -> None:
    soft = JointGroup(
        name="arm",
        lower_deg=(-90, -90),
        upper_deg=(90, 90),
        max_delta_deg=3,
        max_acceleration_deg_s2=0.5 * 20**2,
    )
    run = executing(simulate, soft)
    run.tick(10)
    commands = [run.ticks[-2]["command"], run.ticks[-1]["command"]]
    np.testing.assert_allclose(commands[1] - commands[0], np.deg2rad(3), err_msg="at full speed")
    run.robot.reading = "none"
    commands += [run.tick()["command"] for _ in range(8)]
    steps = np.rad2deg(np.diff([c[0] for c in commands]))
    np.testing.assert_allclose(steps, [3, 2.5, 2, 1.5, 1, 0.5, 0, 0, 0], atol=1e-9)
    assert [s.held for s in run.robot.sent[-8:]] == [False] * 5 + [True] * 3
    assert run.loop.at_rest


def test_at_the_end_of_a_run_it_is_braked_as_well(simulate: Simulate) -> None:
    soft = JointGroup(
        name="arm", lower_deg=(-90,), upper_deg=(90,), max_acceleration_deg_s2=0.5 * 20**2
    )
    run = executing(simulate, soft)
    run.tick(10)
    assert not run.loop.at_rest
    before = len(run.robot.sent)
    hold_at_last(run.loop, run.ticker)
    assert run.loop.at_rest
    assert run.robot.sent[-1].held
    assert len(run.robot.sent) - before == 10, "5 deg a tick, half a degree less each"
