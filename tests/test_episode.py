"""Phases, episodes and the operator's orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from making import Simulate

from rt.control.episode import Episode
from rt.records import ORDER_VALID_S, Answer, Hold, Order, Phase
from rt.testing import TWO_ARMS, WIDE_OPEN, FakeClock, FakeRobot, SimulatedRun, config

SETTLE_TICKS = 5  # 0.25 s at 20 Hz
ORDERS = [order for order in Order if order is not Order.PROMPT]


def run_until(run: SimulatedRun, phase: Phase, limit: int = 2000) -> Any:
    """Tick until the record says `phase`."""
    for _ in range(limit):
        record = run.tick()
        if record["phase"] == phase:
            return record
    raise AssertionError(f"never came to {phase.name}")


@pytest.fixture
def two_arms(simulate: Simulate) -> SimulatedRun:
    """24 joints, some distance from their initial pose."""
    cfg = config(TWO_ARMS)
    clock = FakeClock()
    start = np.where(np.isnan(cfg.initial_rad), 0.3, cfg.initial_rad + 0.15)
    return simulate(cfg, robot=FakeRobot(start, clock=clock), clock=clock)


@pytest.fixture
def running(simulate: Simulate) -> SimulatedRun:
    """In its first episode, executing a chunk."""
    run: SimulatedRun = simulate(config(), delay=lambda n: 1.5)
    while run.tick()["row"] < 0:
        pass
    return run


# The phase machine alone.

DONE = {
    Phase.RUN: {Order.PAUSE, Order.STOP, Order.NEXT_EPISODE, Order.SUCCESS},
    Phase.INITIAL_POSE: {Order.PAUSE, Order.STOP},
    Phase.PAUSED: {Order.RESUME, Order.STOP},
    Phase.STOPPED: {Order.STOP},
    Phase.WAITING: {Order.GO, Order.STOP},
}
LEADS_TO = {
    Order.PAUSE: Phase.PAUSED,
    Order.STOP: Phase.STOPPED,
    Order.NEXT_EPISODE: Phase.INITIAL_POSE,
    Order.SUCCESS: Phase.INITIAL_POSE,
}


def episode_in(phase: Phase) -> Episode:
    episode = Episode(length_ticks=0, settle_ticks=0, gated=phase is Phase.WAITING)
    if phase is Phase.WAITING:
        assert episode.phase is phase, "a gated episode begins there"
        episode.phase = Phase.RUN
        episode.await_go(11)
    elif phase is not Phase.INITIAL_POSE:
        episode.begin(10, 1000)
    if phase is Phase.PAUSED:
        episode.obey(Order.PAUSE, b"", 11)
    if phase is Phase.STOPPED:
        episode.obey(Order.STOP, b"", 11)
    assert episode.phase is phase
    return episode


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("phase", Phase)
def test_an_order_is_done_where_it_makes_sense_and_refused_elsewhere(
    phase: Phase, order: Order
) -> None:
    episode = episode_in(phase)
    answer = episode.obey(order, b"", 20)
    if order in DONE[phase]:
        assert answer is Answer.DONE
        assert episode.phase is LEADS_TO.get(order, Phase.RUN)
    else:
        assert answer is Answer.REFUSED
        assert episode.phase is phase, "a refused order changes nothing"
        assert (episode.ended, episode.successes) == (0, 0)


@pytest.mark.parametrize("phase", Phase)
def test_a_prompt_is_taken_in_every_phase_and_changes_none(phase: Phase) -> None:
    episode = episode_in(phase)
    assert episode.obey(Order.PROMPT, b"pick the cup", 20) is Answer.DONE
    assert (episode.phase, episode.prompt) == (phase, b"pick the cup")


@pytest.mark.parametrize("phase", [Phase.RUN, Phase.INITIAL_POSE])
def test_resume_goes_back_to_where_it_was_paused(phase: Phase) -> None:
    episode = episode_in(phase)
    episode.obey(Order.PAUSE, b"", 20)
    episode.obey(Order.RESUME, b"", 30)
    assert episode.phase is phase
    assert episode.valid_from == 30, "what was observed before the pause is void"


# Through the control loop.


def test_the_initial_pose_is_reached_under_its_speed_and_then_settled(
    two_arms: SimulatedRun,
) -> None:
    run, cfg = two_arms, two_arms.config
    start = run.robot.position.copy()
    begun = run_until(run, Phase.RUN)
    moves = run.ticks[:-1]
    goal = np.where(np.isnan(cfg.initial_rad), start, cfg.initial_rad)
    step = np.deg2rad(30 / 20)  # initial_speed_deg_s, per tick
    commands = np.array([start] + [r["command"] for r in moves])
    assert np.abs(np.diff(commands, axis=0)).max() <= step * (1 + 1e-12)
    arrived = next(i for i, r in enumerate(moves) if (r["command"] == goal).all())
    assert arrived + 1 == np.ceil(0.15 / step), "no slower than its speed"
    assert int(begun["tick"]) - int(moves[arrived]["tick"]) == 1 + SETTLE_TICKS
    assert begun["moves"] == len(moves)
    assert run.robot.prepared == 1


def test_a_joint_without_an_initial_pose_stays_where_it_was_measured(
    two_arms: SimulatedRun,
) -> None:
    stays = np.isnan(two_arms.config.initial_rad)
    start = two_arms.robot.position.copy()
    run_until(two_arms, Phase.RUN)
    assert stays.sum() == 12
    for sent in two_arms.robot.sent:
        np.testing.assert_array_equal(sent.command[stays], start[stays])


def test_a_new_reset_lets_it_stay_where_it_is_then(running: SimulatedRun) -> None:
    running.order(Order.NEXT_EPISODE)
    record = running.tick()
    assert record["phase"] == Phase.INITIAL_POSE
    np.testing.assert_array_equal(record["command"], record["state"])
    assert record["command"][0] >= 1000, "where the first episode left it, not where it began"


def test_the_scene_is_prepared_once_per_episode_at_the_initial_pose(
    two_arms: SimulatedRun,
) -> None:
    run, initial = two_arms, two_arms.config.initial_rad
    for episode in (1, 2, 3):
        while run.robot.prepared < episode:
            run.tick()
        moved = ~np.isnan(initial)
        np.testing.assert_array_equal(run.ticks[-1]["command"][moved], initial[moved])
        assert run.ticks[-1]["episode"] == episode - 1, "before the episode begins"
        run_until(run, Phase.RUN)
        run.tick(10)
        run.order(Order.NEXT_EPISODE)
        run.tick()
    assert run.robot.prepared == 3


def test_the_episode_is_raised_only_after_the_reset_motion(two_arms: SimulatedRun) -> None:
    run = two_arms
    first = run_until(run, Phase.RUN)
    run.tick(20)
    run.order(Order.NEXT_EPISODE)
    second = run.tick()
    while second["phase"] == Phase.INITIAL_POSE:
        assert second["episode"] == 1
        assert second["row"] == -1
        second = run.tick()
    assert (first["episode"], second["episode"]) == (1, 2)
    assert second["valid_from_tick"] == second["tick"]
    assert second["episode_t_start"] == second["t_wake"]
    assert second["hold"] == Hold.NO_CHUNK, "the old episode's chunks are gone"


def test_an_order_is_answered_with_its_index(running: SimulatedRun) -> None:
    assert running.ticks[-1]["command_index"] == -1
    for order, answer in (
        (Order.RESUME, Answer.REFUSED),
        (Order.PAUSE, Answer.DONE),
        (Order.NEXT_EPISODE, Answer.REFUSED),
        (99, Answer.REFUSED),
        (0, Answer.REFUSED),
        (Order.RESUME, Answer.DONE),
    ):
        index = running.order(order)
        record = running.tick()
        assert (record["command_index"], record["command_answer"]) == (index, answer)
        again = running.tick()
        assert (again["command_index"], again["command_answer"]) == (index, answer)


def test_an_order_is_taken_once(running: SimulatedRun) -> None:
    running.order(Order.NEXT_EPISODE)
    running.tick(30)
    assert running.ticks[-1]["episodes"] == 1
    assert running.ticks[-1]["phase"] == Phase.RUN


def test_an_order_is_taken_even_without_a_state(running: SimulatedRun) -> None:
    running.robot.reading = "none"
    running.order(Order.PAUSE)
    record = running.tick()
    assert (record["phase"], record["hold"]) == (Phase.PAUSED, Hold.PAUSED)
    running.order(Order.STOP)
    assert running.tick()["phase"] == Phase.STOPPED


def test_a_prompt_stands_in_the_record_until_the_next(running: SimulatedRun) -> None:
    assert running.ticks[-1]["prompt"] == b""
    prompt = "fold the towel, schön".encode()
    running.order(Order.PROMPT, prompt)
    assert running.tick()["prompt"] == prompt
    running.order(Order.NEXT_EPISODE)
    running.tick(20)
    assert running.ticks[-1]["prompt"] == prompt
    running.order(Order.PROMPT, b"")
    assert running.tick()["prompt"] == b""


def test_a_pause_holds_and_resume_goes_on_with_a_new_chunk_in_the_same_episode(
    running: SimulatedRun,
) -> None:
    last = running.ticks[-1]["command"].copy()
    running.order(Order.PAUSE)
    for _ in range(10):
        record = running.tick()
        assert (record["phase"], record["hold"], record["row"]) == (Phase.PAUSED, Hold.PAUSED, -1)
        np.testing.assert_array_equal(record["command"], last)
        assert running.robot.sent[-1].held
        assert record["chunk"] == -1
    chunks = len(running.chunks)
    running.order(Order.RESUME)
    record = running.tick()
    assert (record["phase"], record["hold"]) == (Phase.RUN, Hold.NO_CHUNK)
    running.tick(4)
    assert running.ticks[-1]["chunk"] >= chunks
    assert running.ticks[-1]["episode"] == 1


def test_a_pause_on_the_way_to_the_initial_pose_is_no_arrival(two_arms: SimulatedRun) -> None:
    run = two_arms
    run.tick(3)
    run.order(Order.PAUSE)
    run.tick(50)
    assert run.robot.prepared == 0
    run.order(Order.RESUME)
    assert run.tick()["phase"] == Phase.INITIAL_POSE
    run_until(run, Phase.RUN)
    assert run.ticks[-1]["moves"] == sum(r["hold"] == Hold.NONE for r in run.ticks)


def test_stop_holds_for_good(running: SimulatedRun) -> None:
    last = running.ticks[-1]["command"].copy()
    running.order(Order.STOP)
    for order in (Order.RESUME, Order.NEXT_EPISODE, Order.SUCCESS, Order.PAUSE):
        record = running.tick()
        assert (record["phase"], record["hold"]) == (Phase.STOPPED, Hold.STOPPED)
        np.testing.assert_array_equal(record["command"], last)
        assert running.robot.sent[-1].held
        running.order(order)


def test_a_loop_that_is_told_to_stop_holds_in_its_last_tick(running: SimulatedRun) -> None:
    running.loop.stopping = True
    record = running.tick()
    assert (record["phase"], record["hold"]) == (Phase.STOPPED, Hold.STOPPED)
    assert running.robot.sent[-1].held


def test_success_by_order_and_by_the_robot_are_counted(running: SimulatedRun) -> None:
    running.order(Order.SUCCESS)
    record = running.tick()
    assert record["phase"] == Phase.INITIAL_POSE
    assert (record["episodes"], record["successes"], record["success"]) == (1, 1, 1)
    begun = run_until(running, Phase.RUN)
    assert begun["success"] == 0, "the new episode has yet to succeed"
    running.robot.success = True
    record = running.tick()
    running.robot.success = False
    assert (record["episodes"], record["successes"], record["success"]) == (2, 2, 1)
    run_until(running, Phase.RUN)
    running.order(Order.NEXT_EPISODE)
    record = running.tick()
    assert (record["episodes"], record["successes"], record["success"]) == (3, 2, 0)


def test_success_outside_an_episode_does_not_count(running: SimulatedRun) -> None:
    running.order(Order.PAUSE)
    running.tick()
    running.robot.success = True
    running.tick(5)
    assert running.ticks[-1]["episodes"] == 0


@pytest.mark.parametrize("ticks_per_row", [1, 3])
def test_an_episode_ends_after_its_rows(simulate: Simulate, ticks_per_row: int) -> None:
    run = simulate(config(episode_ticks=20, ticks_per_row=ticks_per_row))
    run.tick(200 * ticks_per_row)
    for episode in (1, 2, 3):
        ticks = [r for r in run.ticks if r["episode"] == episode and r["phase"] == Phase.RUN]
        assert len(ticks) == 20 * ticks_per_row
    assert run.ticks[-1]["successes"] == 0
    assert run.ticks[-1]["episodes"] == max(r["episode"] for r in run.ticks) - (
        run.ticks[-1]["phase"] == Phase.RUN
    )


def test_an_episode_of_length_0_does_not_end(simulate: Simulate) -> None:
    run = simulate(config((WIDE_OPEN,), episode_ticks=0))
    run.tick(2000)
    assert run.ticks[-1]["episodes"] == 0


def test_a_pause_costs_the_episode_no_time(simulate: Simulate) -> None:
    run: SimulatedRun = simulate(config(episode_ticks=20), delay=lambda n: 1.5)
    began = run_until(run, Phase.RUN)["tick"]
    run.tick(5)
    run.order(Order.PAUSE)
    run.tick(100)
    run.order(Order.RESUME)
    run_until(run, Phase.INITIAL_POSE)
    running = [r for r in run.ticks if r["tick"] >= began and r["phase"] == Phase.RUN]
    assert len(running) == 20


@pytest.mark.parametrize("order", [Order.PAUSE, Order.STOP])
def test_an_order_that_waited_too_long_is_void_but_for_stop(
    running: SimulatedRun, order: Order
) -> None:
    """Its operator was told that it failed: it must not set anything in motion later."""
    running.order(order)
    running.clock.advance(int(2 * ORDER_VALID_S * 1e9))
    record = running.tick()
    if order is Order.STOP:
        assert (record["command_answer"], record["phase"]) == (Answer.DONE, Phase.STOPPED)
    else:
        assert (record["command_answer"], record["phase"]) == (Answer.EXPIRED, Phase.RUN)
