"""The six modes: what the policy is told, what is executed, and the same books behind them all."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from config_folder import load, refusal
from making import Simulate
from oracle import check_plans, check_ticks
from test_rtc import S_MIN, H
from test_rtc import simulated as planned

from rt.config.schema import Algorithm
from rt.errors import PolicyError
from rt.infer.inpainting import compute_guided_prefix_weights
from rt.infer.modes import Ensemble, open_mode
from rt.infer.plan import Plan
from rt.infer.policy import GuidanceOptions
from rt.records import Hold, Order, text
from rt.testing import ScriptedPolicy, SimulatedRun, config

MODES = get_args(Algorithm)
ASYNCHRONOUS = [mode for mode in MODES if mode != "sequential"]
UNTOLD = ("naive", "blend", "temporal_ensembling")


def simulated(simulate: Simulate, mode: str, **options: Any) -> SimulatedRun:
    return planned(
        simulate, **{"algorithm": mode, "policy_update_period": S_MIN, "delay_window": 10} | options
    )


def raw_chunk(number: int) -> np.ndarray[Any, Any]:
    """What the scripted policy returns as chunk `number`, from 1."""
    return number * 1000 + np.arange(H)[:, None] + np.arange(2) / 100


def test_there_are_six() -> None:
    assert MODES == ("sequential", "naive", "blend", "temporal_ensembling", "rtc", "prefix")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ticks_per_row", [1, 3])
def test_every_mode_keeps_the_same_books(simulate: Simulate, mode: str, ticks_per_row: int) -> None:
    rng = np.random.default_rng(7)
    run = simulated(
        simulate,
        mode,
        delay=lambda n: ticks_per_row * rng.choice([0.1, 1.2, 2.5, 3.9999, 7, H + 2.4]),
        busy=lambda k: rng.choice([0, 0.6, 3.3], p=[0.9, 0.05, 0.05]),
        ticks_per_row=ticks_per_row,
    )
    for _ in range(150 * ticks_per_row):
        if rng.random() < 0.02 / ticks_per_row:
            run.order(Order.NEXT_EPISODE)
        run.tick()
    check_ticks(run)
    if mode in ASYNCHRONOUS:
        assert len(check_plans(run)) > 5
    assert {text(chunk["mode"]) for chunk in run.chunks} == {mode}


@pytest.mark.parametrize("mode", UNTOLD)
def test_a_policy_that_knows_no_prefix_is_told_of_none(simulate: Simulate, mode: str) -> None:
    run = simulated(simulate, mode)
    run.tick(60)
    assert len(run.policy.inputs) > 4
    assert all(set(given) == {"proprio"} for given in run.policy.inputs)
    assert any(plan.leftover is not None for plan in run.plans)


def test_rtc_and_prefix_say_how_the_leftover_binds(simulate: Simulate) -> None:
    options = {"schedule": "zeros", "vjp": False, "max_guidance_weight": 3.0}
    run = simulated(simulate, "rtc", **options)
    run.tick(30)
    assert run.policy.inputs[2]["guidance"] == GuidanceOptions(**options)
    run = simulated(simulate, "prefix", **options)
    run.tick(30)
    assert run.policy.inputs[2]["guidance"] == GuidanceOptions(schedule="zeros", prefix=True)
    assert run.policy.inputs[2]["est_delay"] == run.plans[2].d == 3
    hard = compute_guided_prefix_weights(run.plans[2].d, run.plans[2].s, H, schedule="zeros")
    np.testing.assert_array_equal(run.chunks[2]["weights"], hard)


@pytest.mark.parametrize("mode", ["sequential", "naive"])
def test_a_chunk_that_is_tied_to_nothing_is_executed_as_it_is(
    simulate: Simulate, mode: str
) -> None:
    run = simulated(simulate, mode, delay=lambda n: 2.5)
    run.tick(50)
    for number, chunk in enumerate(run.chunks, 1):
        np.testing.assert_allclose(chunk["actions"], raw_chunk(number))
        assert not chunk["weights"].any()


@pytest.mark.parametrize("schedule", ["exp", "linear", "ones", "zeros"])
def test_blend_is_the_weighted_sum(simulate: Simulate, schedule: Any) -> None:
    run = simulated(simulate, "blend", schedule=schedule, delay=lambda n: 2.5)
    run.tick(50)
    assert len(run.chunks) > 5
    for number, (plan, chunk) in enumerate(zip(run.plans, run.chunks, strict=False), 1):
        new = raw_chunk(number)
        if plan.leftover is None:
            np.testing.assert_allclose(chunk["actions"], new)
            continue
        W = compute_guided_prefix_weights(plan.d, plan.s, H, schedule=schedule)
        np.testing.assert_array_equal(chunk["weights"], W)
        old = np.concatenate(
            [run.chunks[plan.previous_chunk]["actions"][plan.s :], np.zeros((plan.s, 2))]
        )
        want = W[:, None] * old + (1 - W[:, None]) * new
        np.testing.assert_allclose(chunk["actions"], want, rtol=1e-5)


@pytest.mark.parametrize("coefficient", [0.0, 0.01, 0.7, -0.5])
def test_an_ensemble_is_the_weighted_mean_of_all_that_foresaw_a_tick(
    simulate: Simulate, coefficient: float
) -> None:
    took = {6: H + 2.5}  # this one expires; the next is cold, and forgets what was foreseen
    run = simulated(
        simulate,
        "temporal_ensembling",
        min_num_actions_executed=1,
        temporal_ensemble_coeff=coefficient,
        delay=lambda n: took.get(n, 1.5),
    )
    run.tick(70)
    check_ticks(run)
    executed = [r for r in run.ticks if r["hold"] == Hold.NONE and r["chunk"] >= 0]
    most = 0
    for r in executed:
        foreseen = []  # of this tick, oldest first
        for index in range(int(r["chunk"]) + 1):
            chunk = run.chunks[index]
            if chunk["cold"]:
                foreseen = []
            row = int(r["tick"] - chunk["first_tick"])
            lapsed = index == 5 or row >= H  # control never took the expired one
            if row >= 0 and not lapsed:
                foreseen.append(raw_chunk(index + 1)[row])
        weights = np.exp(-coefficient * np.arange(len(foreseen)))
        want = weights @ np.array(foreseen) / weights.sum()
        np.testing.assert_allclose(r["command"], want, rtol=1e-5)
        most = max(most, len(foreseen))
    assert most >= 4, "the test averages many chunks"


def test_an_ensemble_counts_a_chunk_that_it_did_not_make_as_one() -> None:
    """After a restart of inference nothing is known of the chunk in use but its rows."""
    plan = Plan(20, 0, cold=False, s=4, leftover=np.zeros((H, 2), np.float32), previous_obs_tick=3)
    weights = Ensemble(0.0)(plan, H)
    np.testing.assert_allclose(weights, [0.5] * 6 + [0] * 4)


@pytest.mark.parametrize("mode", ["blend", "temporal_ensembling"])
def test_what_the_leftover_holds_beyond_its_end_is_not_mixed_in(mode: Any) -> None:
    planned = open_mode(mode, config(action_chunk_size=H).params)
    leftover = np.full((H, 2), 5.0, np.float32)
    plan = Plan(20, 0, cold=False, s=7, d=2, leftover=leftover, previous_obs_tick=3)
    joined, weights = planned.join(plan, np.ones((H, 2), np.float32))
    assert (joined[:2] > 1).all()
    assert (joined[3:] == 1).all()
    assert not weights[3:].any()


def test_chunks_that_were_dropped_leave_no_trace_in_the_ensemble(simulate: Simulate) -> None:
    """Six in a row, while the chunk before them is still being executed."""

    def script(number: int, chunk: Any) -> Any:
        return chunk[:-1] if 6 <= number < 12 else chunk

    policy = ScriptedPolicy(action_chunk_size=H, action_dim=2, script=script)
    run = simulated(
        simulate,
        "temporal_ensembling",
        policy=policy,
        temporal_ensemble_coeff=0.0,
        min_num_actions_executed=1,
        delay=lambda n: 0.5,
    )
    while len(run.plans) < 12:
        run.tick()
    run.tick(2)
    assert run.dropped == 6
    plan, after = run.plans[11], run.chunks[5]
    assert (plan.previous_chunk, plan.s) == (4, 7), "the last chunk that was not dropped goes on"
    foreseen = np.array([3, 2, 1])  # its rows 7, 8, 9, by it and the two before it
    np.testing.assert_allclose(after["weights"][:3], foreseen / (foreseen + 1), rtol=1e-6)


@pytest.mark.parametrize("coefficient", [-10.0, 10.0])
def test_an_ensemble_of_very_many_chunks_stays_finite(coefficient: float) -> None:
    ensemble, horizon = Ensemble(coefficient), 200
    leftover = np.zeros((horizon, 2), np.float32)
    for tick in range(1, 190):
        plan = Plan(tick, 0, cold=False, s=1, leftover=leftover, previous_obs_tick=tick - 1)
        weights = ensemble(plan, horizon)
        assert np.isfinite(weights).all()
    assert weights[0] == pytest.approx(0.0 if coefficient < 0 else 1.0, abs=1e-3)


def test_a_mode_that_the_policy_cannot_serve_is_refused_with_those_that_it_can() -> None:
    mode = open_mode("prefix", config().params)
    policy = ScriptedPolicy(action_chunk_size=H, action_dim=2)
    with pytest.raises(PolicyError, match=r"p\.yaml: .*'prefix'.*sequential, naive, .*, rtc"):
        mode.check(policy, "p.yaml")
    policy.modes = ("naive", "prefix")  # type: ignore[attr-defined]
    mode.check(policy, "p.yaml")
    with pytest.raises(PolicyError, match="one of naive, prefix"):
        open_mode("rtc", config().params).check(policy, "p.yaml")
    policy.modes_why = "it knows no rtc"  # type: ignore[attr-defined]
    with pytest.raises(PolicyError, match=r"one of naive, prefix: it knows no rtc$"):
        open_mode("rtc", config().params).check(policy, "p.yaml")


def test_an_unknown_mode_lists_the_six() -> None:
    message = refusal("--set", "run.algorithm=hasty")
    assert "'hasty'" in message
    assert all(mode in message for mode in MODES)


def test_each_mode_can_be_chosen_for_a_run_and_a_flag_wins_over_set() -> None:
    for mode in MODES:
        assert load("--inference-algorithm", mode).config.run.algorithm == mode
        assert load("--set", f"run.algorithm={mode}").config.run.algorithm == mode
    both = load("--inference_algorithm", "rtc", "--set", "run.algorithm=naive")
    assert both.config.run.algorithm == "rtc"
