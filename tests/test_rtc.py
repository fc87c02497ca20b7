"""When inference starts, what is left over, and which delay it counts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from making import MakeRing, Simulate
from oracle import action_at, check_plans, check_ticks

from rt.control.swap import Swap
from rt.errors import PolicyError
from rt.infer.plan import leftover
from rt.records import Hold, Order, Phase, chunk_dtype
from rt.shm import Ring
from rt.testing import ScriptedPolicy, SimulatedRun, config

H, S_MIN = 10, 4


def simulated(simulate: Simulate, **options: Any) -> SimulatedRun:
    run_options = {
        name: options.pop(name) for name in ("delay", "busy", "policy") if name in options
    }
    options = {
        "action_chunk_size": H,
        "min_num_actions_executed": S_MIN,
        "initial_delay": 3,
        "delay_window": 4,
        **options,
    }
    return simulate(config(**options), **run_options)


def tick_until(run: SimulatedRun, plans: int) -> None:
    """Until inference number `plans` has begun."""
    while len(run.plans) < plans:
        assert len(run.ticks) < 2000, "inference no longer plans"
        run.tick()


@pytest.mark.parametrize("s_min", [1, S_MIN, H - 1])
@pytest.mark.parametrize("delay", range(H + 6))
def test_every_plan_is_right_at_every_delay(simulate: Simulate, delay: int, s_min: int) -> None:
    run = simulated(simulate, delay=lambda n: delay + 0.5, min_num_actions_executed=s_min)
    run.tick(120)
    counts = check_plans(run)
    assert set(counts) <= {delay + 1}, "what was counted is what it took, in rows"
    assert counts or delay >= H, "an in-time chunk counts"


@pytest.mark.parametrize("ticks_per_row", [3, 50])
@pytest.mark.parametrize("delay", [0, 0.34, 1.6, 3, H - 2.99, H + 0.3])
def test_every_plan_is_right_between_rows(
    simulate: Simulate, delay: float, ticks_per_row: int
) -> None:
    run = simulated(simulate, delay=lambda n: delay * ticks_per_row, ticks_per_row=ticks_per_row)
    run.tick(round(0.25 * run.config.control_hz) + (900 if ticks_per_row == 50 else 150))
    counts = check_plans(run)
    assert all(delay <= count <= delay + 1 + 1 / ticks_per_row for count in counts)
    assert len(run.plans) > 1


@pytest.mark.parametrize("ticks_per_row", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_every_plan_is_right_with_spikes_overruns_pauses_resets_and_lost_state(
    simulate: Simulate, seed: int, ticks_per_row: int
) -> None:
    rng = np.random.default_rng(seed)
    run = simulated(
        simulate,
        delay=lambda n: ticks_per_row * rng.choice([0.1, 1.2, 2.5, 3.9999, 7, H + 2.4]),
        busy=lambda k: rng.choice([0, 0.6, 3.3], p=[0.9, 0.05, 0.05]),
        ticks_per_row=ticks_per_row,
    )
    for _ in range(300 * ticks_per_row):
        if rng.random() < 0.03 / ticks_per_row:
            paused = bool(run.ticks) and run.ticks[-1]["phase"] == Phase.PAUSED
            run.order(Order.RESUME if paused else rng.choice([Order.PAUSE, Order.NEXT_EPISODE]))
        run.robot.reading = "none" if rng.random() < 0.02 else "fresh"
        run.tick()
    check_ticks(run)
    assert len(check_plans(run)) > 10


def test_inference_starts_s_min_rows_after_the_last_start(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: 1.5, ticks_per_row=3)
    run.tick(150)
    warm = [plan.obs_tick for plan in run.plans if not plan.cold]
    assert len(warm) > 5
    assert set(np.diff(warm)) == {S_MIN * 3}
    first_row = int(run.chunks[0]["first_tick"])
    assert warm[0] == first_row + S_MIN * 3, "a cold chunk's rows count from its first tick"


def test_the_policy_gets_s_d_and_a_leftover_that_meets_the_new_chunk(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: 1.5)
    tick_until(run, 2)
    assert "prev_action" not in run.policy.inputs[0], "a cold plan is unguided"
    given = run.policy.inputs[1]
    assert (given["s"], given["est_delay"]) == (S_MIN, 3)
    expected = 1000 + np.minimum(np.arange(H) + S_MIN, H - 1)
    np.testing.assert_allclose(given["prev_action"][:, 0], expected)
    assert given["prev_action"].dtype == np.float32
    np.testing.assert_array_equal(
        given["prev_action"][0], run.ticks[-1]["command"].astype(np.float32)
    )


@pytest.mark.parametrize("ticks_per_row", [1, 3, 50])
def test_leftover_row_i_is_what_control_executes_i_rows_later(
    make_ring: MakeRing, ticks_per_row: int
) -> None:
    ring = make_ring(chunk_dtype(H, 3))
    swap, out = Swap(Ring.attach(ring.name), ticks_per_row), np.empty(3)
    chunk = ring.buffer()
    actions = np.random.default_rng(0).normal(size=(H, 3)).astype(np.float32)
    chunk["actions"], chunk["first_tick"] = actions, 100
    ring.write(chunk)
    for later in range(0, H * ticks_per_row, max(1, ticks_per_row // 7)):
        left = leftover(actions, later / ticks_per_row)
        assert left.shape == (H, 3)
        assert left.dtype == np.float32
        for i in range(H):
            k = 100 + later + i * ticks_per_row
            swap.take_newest(k, 0, 0)
            hold = swap.target(k, out)
            if hold is Hold.NONE:
                np.testing.assert_allclose(left[i], out, rtol=1e-5, atol=1e-6)
            else:
                assert hold is Hold.EXPIRED
                np.testing.assert_array_equal(left[i], actions[-1])  # padded by its last row


def test_a_leftover_at_a_whole_row_is_the_chunk_bit_for_bit() -> None:
    actions = np.random.default_rng(1).normal(size=(H, 3)).astype(np.float32)
    for s in range(H):
        np.testing.assert_array_equal(leftover(actions, s)[: H - s], actions[s:])
        np.testing.assert_array_equal(leftover(actions, s)[H - s :], actions[[-1] * s])
    np.testing.assert_array_equal(leftover(actions, H), actions[[-1] * H])


def test_a_row_of_the_leftover_between_rows_is_interpolated() -> None:
    actions = np.random.default_rng(2).normal(size=(H, 2)).astype(np.float32)
    for row in (Fraction(1, 3), Fraction(5, 2), Fraction(H * 50 - 51, 50), Fraction(H) - 1):
        expected = np.array([action_at(actions, row + i) for i in range(H)])
        np.testing.assert_allclose(leftover(actions, float(row)), expected, rtol=1e-4, atol=1e-6)


def test_d_is_the_longest_counted_delay_of_the_window(simulate: Simulate) -> None:
    took = {4: 3.5}  # inference 4 takes longer, once
    run = simulated(simulate, delay=lambda n: took.get(n, 1.5), delay_window=3)
    tick_until(run, 10)
    assert [plan.d for plan in run.plans] == [0, 3, 2, 2, 4, 4, 4, 2, 2, 2]
    assert [plan.previous_d_counted for plan in run.plans] == [-1, -1, 2, 2, 4, 2, 2, 2, 2, 2]
    check_plans(run)


def test_d_never_reaches_past_what_is_left(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: 4.5, min_num_actions_executed=7, initial_delay=9)
    tick_until(run, 4)
    warm = [plan for plan in run.plans if not plan.cold]
    assert warm
    assert all(plan.d == H - plan.s for plan in warm)


def test_a_cold_chunk_is_not_counted(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: 40.5 if n == 1 else 1.5)
    tick_until(run, 5)
    assert [plan.d for plan in run.plans] == [0, 3, 2, 2, 2], "40 rows to start with are forgiven"
    assert [plan.previous_d_counted for plan in run.plans][:3] == [-1, -1, 2]


def test_a_chunk_that_was_never_used_counts_with_its_publication(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: H + 4.5 if n == 2 else 1.5)
    tick_until(run, 4)
    assert run.ticks[-1]["expired_chunks"] == 1
    assert run.plans[2].cold
    assert run.plans[2].previous_d_counted == H + 5
    assert run.plans[3].d == H - run.plans[3].s, "the longest delay, as far as the chunk goes"
    check_plans(run)


def test_a_late_chunk_is_counted(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: 4.5 if n == 3 else 1.5)
    tick_until(run, 3)
    assert run.mode.planner.late == 0
    tick_until(run, 4)
    assert run.mode.planner.late == 1
    tick_until(run, 9)
    assert run.mode.planner.late == 1


def test_the_counted_delay_is_the_rows_of_the_old_chunk_that_were_executed(
    simulate: Simulate,
) -> None:
    run = simulated(simulate, delay=lambda n: 0.3 + n % 5)
    tick_until(run, 20)
    for plan, (index, chunk) in zip(run.plans[1:], enumerate(run.chunks), strict=False):
        if not chunk["cold"]:
            meanwhile = [r for r in run.ticks if r["tick"] >= chunk["first_tick"]]
            old = [r for r in meanwhile if r["chunk"] == index - 1 and r["row"] >= 0]
            assert len(old) == plan.previous_d_counted


def test_after_a_hold_it_plans_at_once_and_cold(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: H + 2.5 if n == 3 else 1.5)
    tick_until(run, 4)
    assert run.ticks[-1]["hold"] == Hold.EXPIRED
    assert run.plans[-1].cold
    assert run.plans[-1].leftover is None


def test_a_cold_chunk_still_to_come_is_waited_for(simulate: Simulate) -> None:
    # Published in the last moment before a tick, a cold chunk starts one tick later.
    run = simulated(simulate, delay=lambda n: H + 0.9999 if n == 2 else 1.9999)
    tick_until(run, 4)
    cold = run.chunks[2]
    assert cold["cold"]
    hold = next(r["hold"] for r in run.ticks if r["tick"] == cold["first_tick"] - 1)
    assert hold == Hold.EXPIRED, "the record alone does not tell that a chunk is coming"
    assert run.plans[3].obs_tick == cold["first_tick"] + S_MIN


def test_it_does_not_plan_without_a_state_or_while_not_running(simulate: Simulate) -> None:
    run = simulated(simulate)
    tick_until(run, 3)
    run.order(Order.PAUSE)
    run.tick(20)
    assert len(run.plans) == 3
    run.order(Order.RESUME)
    run.robot.reading = "none"
    run.tick(20)
    assert len(run.plans) == 3
    run.robot.reading = "fresh"
    run.tick()
    assert len(run.plans) == 4
    assert run.plans[-1].cold


def test_after_a_pause_it_plans_at_once_from_a_fresh_observation(simulate: Simulate) -> None:
    run = simulated(simulate)
    tick_until(run, 3)
    run.tick(3)  # its chunk is there, nothing is under way
    run.order(Order.PAUSE)
    run.tick()
    run.order(Order.RESUME)
    resumed = run.tick()
    assert run.plans[-1].obs_tick == resumed["tick"] == resumed["valid_from_tick"]


@pytest.mark.parametrize("fault", ["shape", "raise"])
def test_after_a_chunk_that_was_dropped_it_plans_again(simulate: Simulate, fault: str) -> None:
    def script(number: int, chunk: Any) -> Any:
        if number != 3:
            return chunk
        if fault == "raise":
            raise PolicyError("told to fail")
        return chunk[:-1]

    policy = ScriptedPolicy(action_chunk_size=H, action_dim=2, script=script)
    run = simulated(simulate, delay=lambda n: 3.5 if n == 2 else 1.5, policy=policy)
    tick_until(run, 5)
    check_ticks(run)
    assert run.dropped == 1
    assert run.plans[3].previous_chunk == run.plans[2].previous_chunk == 1
    assert run.plans[3].s == run.plans[2].s + 2
    assert [p.previous_d_counted for p in run.plans[2:4]] == [4, 4]
    assert run.mode.planner.late == 1, "that delay counts once, however often it is told"


def test_a_restarted_inference_goes_on_from_the_newest_chunk(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: 1.5)
    tick_until(run, 5)
    chunks = len(run.chunks)
    run.restart_inference()  # inference 5 is lost
    run.tick()
    plan = run.plans[5]
    assert not plan.cold
    assert (plan.previous_chunk, plan.s) == (chunks - 1, S_MIN + 1)
    assert plan.d == 3, "its delays are not known any more"
    assert plan.previous_d_counted == -1, "that delay was another process's"
    tick_until(run, 8)
    assert [p.d for p in run.plans[6:8]] == [2, 2]
    assert not any(r["hold"] for r in run.ticks if r["tick"] > run.chunks[0]["first_tick"])
    check_ticks(run)


def test_a_restarted_inference_goes_on_after_a_hold(simulate: Simulate) -> None:
    run = simulated(simulate, delay=lambda n: 1.5)
    tick_until(run, 3)
    run.restart_inference()
    run.order(Order.PAUSE)
    run.tick(2)
    run.restart_inference()
    run.order(Order.RESUME)
    run.tick()
    assert run.plans[-1].cold
    assert len(run.plans) == 4
    run.tick(20)
    check_ticks(run)
    assert run.ticks[-1]["hold"] == Hold.NONE


# Sequential mode.


def sequential(simulate: Simulate, **options: Any) -> SimulatedRun:
    return simulated(simulate, algorithm="sequential", policy_update_period=4, **options)


@pytest.mark.parametrize("delay", [0, 0.5, 2.5, 2.9999, 30.5])
@pytest.mark.parametrize("ticks_per_row", [1, 3])
def test_sequential_executes_a_period_of_rows_then_stands_still_and_plans(
    simulate: Simulate, delay: float, ticks_per_row: int
) -> None:
    run = sequential(simulate, delay=lambda n: delay, ticks_per_row=ticks_per_row)
    run.tick(12 * 4 * ticks_per_row)
    check_ticks(run)
    begun = [r for r in run.ticks if r["episode"] == 1]
    assert begun[0]["hold"] == Hold.NO_CHUNK, "the plan starts from the first record"
    rows = [Fraction(i, ticks_per_row) for i in range(4 * ticks_per_row)]
    executed = [(int(r["chunk"]), float(r["row"])) for r in begun[1:]]
    expected = [(c, float(row)) for c in range(len(executed)) for row in rows]
    np.testing.assert_allclose(executed, expected[: len(executed)])
    assert all(plan.cold and plan.d == 0 for plan in run.plans)


def test_sequential_waits_for_a_chunk_that_is_still_to_come(simulate: Simulate) -> None:
    run = sequential(simulate)
    run.tick(6)
    plan, actions, record = run.plans[0], run.chunks[0]["actions"], run.ticks[-1].copy()
    run.mode.planner.published(plan, 0, plan.obs_tick + 2, plan.obs_tick + 1, actions)
    for hold in (Hold.NO_CHUNK, Hold.NOT_DUE, Hold.EXPIRED):
        record["hold"], record["tick"] = hold, plan.obs_tick + 1
        assert not run.mode.planner.due(record)
        record["tick"] = plan.obs_tick + 2
        assert run.mode.planner.due(record)


def test_sequential_counts_the_ticks_missed_as_planning_not_as_overruns(
    simulate: Simulate,
) -> None:
    run = sequential(simulate, delay=lambda n: 2.5)
    run.tick(60)
    last, plans = run.ticks[-1], len(run.plans)
    assert plans > 5
    finished = plans - (run.plans[-1].obs_tick == last["tick"])
    assert (last["planning"], last["overruns"]) == (2 * finished, 0)


def test_sequential_plans_again_after_a_pause_and_a_reset(simulate: Simulate) -> None:
    run = sequential(simulate)
    run.tick(20)
    for orders in ([Order.PAUSE, Order.RESUME], [Order.NEXT_EPISODE]):
        before = len(run.plans)
        for order in orders:
            run.order(order)
            run.tick()
        run.tick(12)
        assert len(run.plans) > before
        assert run.ticks[-1]["hold"] == Hold.NONE
    check_ticks(run)
