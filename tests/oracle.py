"""What every tick and every plan must be, from the design's words alone.

It keeps the whole history and searches it, where the code under test keeps two chunks and a few
counters: the two have no line in common.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt.arrays import Vector
from rt.records import Hold, Phase
from rt.testing import SimulatedRun

STARVED_AFTER = 3
Record = Any


class Heard(NamedTuple):
    """A chunk that control read."""

    chunk: int
    at: int  # the tick that read it
    first: int
    expired: bool  # its last row was over by then
    actions: NDArray[np.float32]


class Expected(NamedTuple):
    """What a tick must do."""

    hold: Hold
    chunk: int = -1  # in use
    row: Fraction | None = None
    action: Vector | None = None


def action_at(actions: NDArray[np.float32], row: Fraction) -> Vector:
    """(A,) what `actions` (H, A) says at a fractional row; after the last row, the last row."""
    last = len(actions) - 1
    low = min(math.floor(row), last)
    a: Vector = actions[low].astype(float)
    share = float(row - low)
    if share and low < last:
        b: Vector = actions[low + 1].astype(float)
        return a + share * (b - a) if np.isfinite(a).all() else a
    return a


class SwapOracle:
    """The chunk and the row of each tick, by search in all that was heard."""

    def __init__(self, horizon: int, ticks_per_row: int) -> None:
        self.horizon = horizon
        self.ticks_per_row = ticks_per_row
        self.heard: list[Heard] = []  # since all was forgotten last

    def forget(self) -> None:
        self.heard.clear()

    def hear(self, k: int, index: int, chunk: Record, episode: int, valid_from: int) -> bool:
        """Control read `chunk`, the newest, at tick `k`. True: it came too late."""
        if chunk["episode"] != episode or chunk["obs_tick"] < valid_from:
            return False
        first = int(chunk["first_tick"])
        expired = k >= first + self.horizon * self.ticks_per_row
        self.heard.append(Heard(index, k, first, expired, chunk["actions"].copy()))
        return expired

    def expect(self, k: int) -> Expected:
        """What tick `k` must do."""
        in_time = [h for h in self.heard if not h.expired]
        begun = [h for h in in_time if h.first <= k and not self._replaced(h, in_time)]
        late = [h.expired for h in self.heard[-STARVED_AFTER:]]
        starved = len(late) == STARVED_AFTER and all(late)
        if not begun:
            if in_time:
                return Expected(Hold.NOT_DUE)
            return Expected(Hold.STARVED if starved else Hold.NO_CHUNK)
        newest = begun[-1]
        row = Fraction(k - newest.first, self.ticks_per_row)
        if row >= self.horizon:
            return Expected(Hold.STARVED if starved else Hold.EXPIRED, newest.chunk)
        action = action_at(newest.actions, row)
        if not np.isfinite(action).all():
            return Expected(Hold.NOT_FINITE, newest.chunk)
        return Expected(Hold.NONE, newest.chunk, row, action)

    @staticmethod
    def _replaced(h: Heard, in_time: list[Heard]) -> bool:
        """A newer chunk came before this one was due."""
        return any(newer.chunk > h.chunk and newer.at < h.first for newer in in_time)


def check_ticks(run: SimulatedRun) -> list[Expected]:
    """Every tick of `run`, a run without limits, does what the design says."""
    params = run.config.params
    oracle = SwapOracle(params.action_chunk_size, params.ticks_per_row)
    sent = {s.tick: s for s in run.robot.sent}
    used: dict[int, int] = {}
    all_expected = []
    ready = heard = expired = 0
    last = np.full(params.action_dim, np.nan)  # the command sent last
    for record in run.ticks:
        k, phase, hold = int(record["tick"]), Phase(record["phase"]), Hold(record["hold"])
        where = f"tick {k}"
        if phase is not Phase.RUN:
            oracle.forget()
            expected = Expected(Hold.PAUSED if phase is Phase.PAUSED else hold)
        elif hold is Hold.NO_STATE:
            expected = Expected(hold, int(record["chunk"]))
        else:
            while ready < len(run.chunks) and run.chunks[ready]["t_publish"] <= record["t_wake"]:
                ready += 1
            if ready > heard:
                heard, chunk = ready, run.chunks[ready - 1]
                episode, valid_from = int(record["episode"]), int(record["valid_from_tick"])
                expired += oracle.hear(k, ready - 1, chunk, episode, valid_from)
            expected = oracle.expect(k)
        all_expected.append(expected)
        assert hold is expected.hold, where
        assert int(record["chunk"]) == expected.chunk, where
        assert record["expired_chunks"] == expired, where
        if expected.row is None or expected.action is None:
            assert record["row"] == -1, where
        else:
            first = int(run.chunks[expected.chunk]["first_tick"])
            assert abs(record["row"] - float(expected.row)) < 1e-9, where
            assert record["chunk_first_tick"] == first, where
            assert record["chunk_first_used_tick"] == used.setdefault(expected.chunk, k), where
            np.testing.assert_allclose(record["command"], expected.action, rtol=1e-12)
            np.testing.assert_array_equal(record["target"], record["command"])
        if k in sent:
            assert sent[k].held == (hold is not Hold.NONE), where
            np.testing.assert_array_equal(sent[k].command, record["command"], where)
            if sent[k].held:
                np.testing.assert_array_equal(sent[k].command, last, where)
            last = sent[k].command
    return all_expected


def check_plans(run: SimulatedRun) -> list[int]:
    """Inference looked, planned and counted as the design says. Returns the counted delays."""
    params = run.config.params
    tpr, H = params.ticks_per_row, params.action_chunk_size
    counts: list[int] = []
    counted: dict[int, int] = {}
    plans = list(run.plans)
    known = late = 0
    for record in run.looked:
        where = f"inference at tick {int(record['tick'])}"
        while known < len(run.chunks) and run.chunks[known]["t_publish"] <= record["t_wake"]:
            known += 1
        newest, index = (run.chunks[known - 1] if known else None), known - 1
        due = _must_plan(run, record, newest)
        planned = bool(plans) and plans[0].obs_tick == record["tick"]
        assert planned == due, f"{where}: expected {'a' if due else 'no'} plan"
        if not due:
            continue
        plan = plans.pop(0)
        if newest is not None and not newest["cold"] and index not in counted:
            counted[index] = _count(run, record, index)
            counts.append(counted[index])
            late += counted[index] > newest["d_planned"]
        assert plan.previous_d_counted == counted.get(index, -1), where
        assert plan.episode == record["episode"], where
        assert plan.cold == (record["hold"] != Hold.NONE), where
        if plan.cold:
            assert (plan.s, plan.d, plan.previous_chunk) == (0, 0, -1), where
            assert plan.leftover is None, where
            continue
        in_use = run.chunks[int(record["chunk"])]
        row = Fraction(int(record["tick"]) - int(in_use["first_tick"]), tpr)
        s = min(max(math.ceil(row), 0), H)
        d = min(max(counts[-params.delay_window :], default=params.initial_delay), H - s)
        assert (plan.s, plan.d, plan.previous_chunk) == (s, d, int(record["chunk"])), where
        goes_on = np.array([action_at(in_use["actions"], row + i) for i in range(H)])
        np.testing.assert_allclose(np.array(plan.leftover), goes_on, 1e-6, err_msg=where)
    assert not plans, "a plan from a record that inference did not look at"
    assert run.mode.planner.late == late
    return counts


def publish_tick(run: SimulatedRun, chunk: Record) -> int:
    """The first tick due after the chunk's publication."""
    since_epoch = int(chunk["t_publish"]) - run.ticker.epoch_ns
    return since_epoch // run.config.period_ns + 1


def _must_plan(run: SimulatedRun, record: Record, newest: Record | None) -> bool:
    params = run.config.params
    if record["phase"] != Phase.RUN or record["hold"] == Hold.NO_STATE:
        return False
    if newest is None or newest["obs_tick"] < record["valid_from_tick"]:
        return True
    k, first = int(record["tick"]), int(newest["first_tick"])
    if k < publish_tick(run, newest) or k < first:
        return False  # the newest chunk is still to come
    if record["hold"] != Hold.NONE:
        return True
    return k - first >= params.min_num_actions_executed * params.ticks_per_row


def _count(run: SimulatedRun, record: Record, index: int) -> int:
    """Rows from the chunk's observation to its first use; never used: to its publication."""
    chunk = run.chunks[index]
    used = -1
    if record["chunk"] == index:
        using = (r for r in run.ticks if r["chunk"] == index and r["hold"] == Hold.NONE)
        used = next((int(r["tick"]) for r in using if r["tick"] <= record["tick"]), -1)
    until = used if used >= 0 else publish_tick(run, chunk)
    return math.ceil(Fraction(until - int(chunk["first_tick"]), run.config.params.ticks_per_row))
