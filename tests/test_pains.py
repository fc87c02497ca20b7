"""What people report of other runtimes, one test each, in simulated time, with its reports.

The control loop, the modes, the rings and the flow policy are the real ones; the policy's network
is one of two ways, exact.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from making import Simulate
from test_rtc import S_MIN
from test_rtc import simulated as planned
from two_ways import TwoWays

from rt.arrays import Chunk
from rt.config.schema import Algorithm
from rt.infer.affine import IDENTITY
from rt.infer.normalization import Normalizer
from rt.infer.policies.flow import FlowPolicy
from rt.records import Hold, Order
from rt.testing import ScriptedPolicy, SimulatedRun

H, A = 16, 2
MODES = get_args(Algorithm)
ASYNCHRONOUS = [mode for mode in MODES if mode != "sequential"]


def simulated(simulate: Simulate, mode: str, policy: Any = None, **options: Any) -> SimulatedRun:
    defaults = {
        "algorithm": mode,
        "action_chunk_size": H,
        "policy_update_period": S_MIN,
        "initial_delay": 4,
        "delay_window": 10,
        "delay": lambda n: 3.5,
        "policy": policy or ScriptedPolicy(action_chunk_size=H, action_dim=A),
    }
    return planned(simulate, **defaults | options)


def two_ways(**options: Any) -> FlowPolicy:
    network = TwoWays(action_horizon=H, action_dim=A, **options)
    return FlowPolicy({"flow": network}, seed=0)


def seam_jumps(run: SimulatedRun) -> list[float]:
    """The largest change of a joint's command at each change of chunk, rad."""
    executed = [r for r in run.ticks if r["hold"] == Hold.NONE and r["row"] >= 0]
    return [
        float(np.abs(now["command"] - before["command"]).max())
        for before, now in pairwise(executed)
        if now["chunk"] != before["chunk"] and before["chunk"] >= 0
    ]


def test_pain_1_a_delay_is_counted_and_a_spike_is_forgotten(simulate: Simulate) -> None:
    """lerobot #4223, #4454, #2541: jumps, from a delay that is the longest latency ever × fps."""
    took = {1: 40.5, 3: 9.5}  # the first, as in a warm-up; and a hiccup
    run = simulated(simulate, "rtc", delay=lambda n: took.get(n, 1.5), delay_window=3)
    while len(run.plans) < 9:
        run.tick()
    assert [plan.d for plan in run.plans] == [0, 4, 2, H - 10, 10, 10, 2, 2, 2]
    for plan, chunk in zip(run.plans[1:], run.chunks, strict=False):
        used = [
            r for r in run.ticks if r["chunk"] >= 0 and r["chunk_first_tick"] == chunk["first_tick"]
        ]
        if not chunk["cold"]:
            assert plan.previous_d_counted == used[0]["tick"] - chunk["first_tick"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay", [1.5, 8.5, H - 2.5, H + 3.5])
def test_pain_2_no_zeros_at_the_seam(simulate: Simulate, mode: str, delay: float) -> None:
    """lerobot #4454, strands-labs/robots #1701, #1704: the leftover's padding is commanded."""
    run = simulated(simulate, mode, delay=lambda n: delay, initial_delay=1)
    run.tick(150)
    moved = [r for r in run.ticks if r["tick"] >= run.chunks[0]["first_tick"]]
    assert len(moved) > 60
    assert all((r["command"] >= 1000).all() for r in moved), "every chunk holds 1000 and more"
    assert all((p.leftover >= 1000).all() for p in run.plans if p.leftover is not None)
    for plan, chunk in zip(run.plans, run.chunks, strict=False):
        assert not chunk["weights"][H - plan.s :].any()


class Ramp(TwoWays):
    """Every joint goes on by a tenth of a rad per row from where it was seen: delta actions."""

    def velocity(self, context: torch.Tensor, x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        clean = 0.1 * torch.arange(1, H + 1)[:, None].expand(H, A)
        rest = 1 - (tau[..., None] if tau.ndim == 2 else tau[:, None, None])
        v: torch.Tensor = (clean - x) / rest.clamp(min=0.2)
        return v


@pytest.mark.parametrize("mode", ["rtc", "prefix"])
def test_pain_3_delta_actions_are_anchored_to_the_new_state(simulate: Simulate, mode: str) -> None:
    """real-time-chunking-kinetix #4, lerobot #2970: a leftover relative to the old state."""
    normalizer = Normalizer(IDENTITY, IDENTITY, np.array([True] * A))
    ramp = Ramp(action_horizon=H, action_dim=A, row_times=True, normalizer=normalizer)
    run = simulated(simulate, mode, FlowPolicy({"flow": ramp}, seed=0))
    run.tick(60)
    assert run.ticks[-1]["state"].min() > 2, "the robot is far from where it began, 0"
    warm = [n for n, plan in enumerate(run.plans[: len(run.chunks)]) if not plan.cold]
    assert len(warm) > 4
    for n in warm:
        plan, actions = run.plans[n], run.chunks[n]["actions"]
        assert plan.leftover is not None
        np.testing.assert_allclose(actions[: plan.d], plan.leftover[: plan.d], atol=0.05)
    assert max(seam_jumps(run)) < 0.2, "a row's step is 0.1; relative to the old state it is 0.5"


def test_pain_4_rtc_does_something_and_in_the_right_direction(simulate: Simulate) -> None:
    """lerobot #2511, #2696, #2499: guidance without effect, or with the wrong sign."""
    jumps = {}
    for mode in ("naive", "rtc", "prefix"):
        run = simulated(simulate, mode, two_ways(row_times=True))
        run.tick(400)
        jumps[mode] = np.array(seam_jumps(run))
        assert len(jumps[mode]) > 60
    assert np.mean(jumps["naive"] > 1.5) > 0.3, "a free policy often goes the other way"
    assert np.mean(jumps["rtc"] > 1.5) < 0.1, "a guided one goes on as it began"
    assert np.mean(jumps["prefix"] > 1.5) == 0
    assert jumps["rtc"].mean() < jumps["naive"].mean() / 4


@pytest.mark.parametrize("mode", ["naive", "rtc", "prefix"])
def test_pain_5_inference_mode_changes_nothing(simulate: Simulate, mode: str) -> None:
    """strands-labs/robots #3474, lerobot #3053: no gradient to be had inside inference_mode."""

    def commands() -> Chunk:
        run = simulated(simulate, mode, two_ways(row_times=True))
        run.tick(60)
        assert run.dropped == 0
        return np.array([r["command"] for r in run.ticks], np.float32)

    outside = commands()
    with torch.inference_mode():
        np.testing.assert_array_equal(commands(), outside)


@pytest.mark.parametrize("mode", MODES)
def test_pain_12_a_reset_drops_what_is_in_hand_and_in_flight(simulate: Simulate, mode: str) -> None:
    """lerobot #1116: after a reset, the old episode's actions are executed."""
    run = simulated(simulate, mode, delay=lambda n: 6.5)
    run.tick(31)
    before = run.ticks[-1]
    run.order(Order.NEXT_EPISODE)
    run.tick(40)
    after = [r for r in run.ticks if r["episode"] > before["episode"]]
    used = {int(r["chunk"]) for r in after if r["hold"] == Hold.NONE and r["row"] >= 0}
    assert used, "the new episode is executed"
    assert all(run.chunks[index]["episode"] == before["episode"] + 1 for index in used)
    first = run.chunks[min(used)]
    assert first["cold"], "and nothing of the old one is left over"
    number = run.plans.index(next(p for p in run.plans if p.obs_tick == first["obs_tick"])) + 1
    np.testing.assert_allclose(first["actions"][:, 0], number * 1000 + np.arange(H))


@pytest.mark.parametrize("mode", MODES)
def test_pain_12_joints_keep_their_order_in_every_mode(simulate: Simulate, mode: str) -> None:
    """lerobot #4122, #4452: one joint's action goes to another."""
    run = simulated(simulate, mode)
    run.tick(60)
    executed = [r["command"] for r in run.ticks if r["hold"] == Hold.NONE and r["row"] >= 0]
    assert len(executed) > 20
    np.testing.assert_allclose(np.diff(executed, axis=1), 0.01, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(H, A + 1), (H, A - 1), (H - 1, A), (A, H), (1, H, A), (A,), ()])
def test_pain_12_a_chunk_of_other_dimensions_is_dropped_and_counted(
    simulate: Simulate, mode: str, shape: tuple[int, ...]
) -> None:
    """lerobot #2393, #2963: dimensions that do not match."""

    def script(number: int, chunk: Any) -> Any:
        return np.full(shape, 7.0, np.float32) if number % 2 == 0 else chunk

    policy = ScriptedPolicy(action_chunk_size=H, action_dim=A, script=script)
    run = simulated(simulate, mode, policy)
    run.tick(60)
    assert run.dropped >= 2
    assert len(run.chunks) >= 2
    assert not any((r["command"] == 7).any() for r in run.ticks)
