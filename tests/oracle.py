"""What every tick and every plan must be, from the design's words alone.

Written without a look at the code under test: it keeps the whole history and searches it, where
the code keeps two chunks and a counter.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt.records import Hold, Phase
from rt.testing import SimulatedRun

STARVED_AFTER = 3
Record = Any


class Heard(NamedTuple):
    """A chunk that control read."""

    index: int
    at: int  # the tick that read it
    first: int
    expired: bool  # its last row was over by then
    actions: NDArray[np.float32]


class Expected(NamedTuple):
    """What a tick must do."""

    hold: Hold
    index: int  # of the chunk in use, -1: none
    row: Fraction | None
    action: NDArray[np.float64] | None


def action_at(actions: NDArray[np.float32], row: Fraction) -> NDArray[np.float64]:
    """(A,) what `actions` (H, A) says at a fractional row; after the last row, the last row."""
    last = len(actions) - 1
    low = min(math.floor(row), last)
    high = min(low + 1, last)
    share = float(row - math.floor(row))
    a, b = actions[low].astype(float), actions[high].astype(float)
    return a + share * (b - a) if share and high > low else a


class SwapOracle:
    """The chunk and the row of each tick, by search in all that was heard."""

    def __init__(self, horizon: int, ticks_per_row: int) -> None:
        self.horizon = horizon
        self.ticks_per_row = ticks_per_row
        self.heard: list[Heard] = []  # since the last time that all was forgotten

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
        taken = [h for h in in_time if h.first <= k and not self._replaced(h, in_time)]
        recent = self.heard[-STARVED_AFTER:]
        starved = len(recent) == STARVED_AFTER and all(h.expired for h in recent)
        if not taken:
            if any(h.first > k for h in in_time):
                return Expected(Hold.NOT_DUE, -1, None, None)
            return Expected(Hold.STARVED if starved else Hold.NO_CHUNK, -1, None, None)
        newest = taken[-1]
        row = Fraction(k - newest.first, self.ticks_per_row)
        if row >= self.horizon:
            return Expected(Hold.STARVED if starved else Hold.EXPIRED, newest.index, None, None)
        action = action_at(newest.actions, row)
        if not np.isfinite(action).all():
            return Expected(Hold.NOT_FINITE, newest.index, None, None)
        return Expected(Hold.NONE, newest.index, row, action)

    @staticmethod
    def _replaced(h: Heard, in_time: list[Heard]) -> bool:
        """A newer chunk came before this one was due."""
        return any(newer.index > h.index and newer.at <= h.first for newer in in_time)


def check_ticks(run: SimulatedRun) -> list[Expected]:
    """Every tick of `run`, a run without limits, does what the design says."""
    params = run.config.params
    oracle = SwapOracle(params.action_chunk_size, params.ticks_per_row)
    used: dict[int, int] = {}
    expected_all: list[Expected] = []
    heard = expired = 0
    sent = {s.tick: s for s in run.robot.sent}
    last = None  # the command sent last
    for record in run.ticks:
        k, phase, hold = int(record["tick"]), Phase(record["phase"]), Hold(record["hold"])
        if phase is not Phase.RUN:
            oracle.forget()
            expected = Expected({Phase.PAUSED: Hold.PAUSED}.get(phase, hold), -1, None, None)
        elif hold is Hold.NO_STATE:
            expected = Expected(hold, int(record["chunk"]), None, None)
        else:
            ready = sum(int(c["t_publish"]) <= record["t_wake"] for c in run.chunks)
            if ready > heard:
                episode, valid_from = int(record["episode"]), int(record["valid_from_tick"])
                chunk = run.chunks[ready - 1]
                expired += oracle.hear(k, ready - 1, chunk, episode, valid_from)
                heard = ready
            expected = oracle.expect(k)
        expected_all.append(expected)
        where = f"tick {k}"
        assert hold is expected.hold, where
        assert int(record["chunk"]) == expected.index, where
        assert record["expired_chunks"] == expired, where
        if expected.row is None:
            assert record["row"] == -1, where
        else:
            first = int(run.chunks[expected.index]["first_tick"])
            assert abs(record["row"] - float(expected.row)) < 1e-9, where
            assert record["chunk_first_tick"] == first, where
            assert record["chunk_first_used_tick"] == used.setdefault(expected.index, k), where
            np.testing.assert_allclose(record["command"], expected.action, rtol=1e-12)
            np.testing.assert_array_equal(record["target"], record["command"])
        if k in sent:
            assert sent[k].held == (hold is not Hold.NONE), where
            np.testing.assert_array_equal(sent[k].command, record["command"], where)
            if sent[k].held:
                np.testing.assert_array_equal(sent[k].command, last, where)
            last = sent[k].command
    return expected_all


def check_plans(run: SimulatedRun) -> None:
    """Inference looked, planned and counted as the design says, at every record."""
    params = run.config.params
    H, tpr, s_min = (
        params.action_chunk_size,
        params.ticks_per_row,
        params.min_num_actions_executed,
    )
    period, epoch = run.config.period_ns, run.ticker.epoch_ns
    counts: list[int] = []
    counted: dict[int, int] = {}
    late = done = 0
    for record in run.looked:
        k, where = int(record["tick"]), f"inference at tick {int(record['tick'])}"
        hold = Hold(record["hold"])
        known = [c for c in run.chunks if c["t_publish"] <= record["t_wake"]]
        index = len(known) - 1
        newest = known[-1] if known else None
        # The first tick due after publication: before it control cannot have used the chunk.
        publish = (int(newest["t_publish"]) - epoch) // period + 1 if known else 0
        planned = run.plans[done] if done < len(run.plans) else None
        plans_now = planned is not None and planned.obs_tick == k
        if record["phase"] != Phase.RUN or hold is Hold.NO_STATE:
            assert not plans_now, where
            continue
        lives = newest is not None and newest["obs_tick"] >= record["valid_from_tick"]
        if not lives:
            due = True
        elif k < max(publish, int(newest["first_tick"])):
            due = False  # the newest chunk is still to come
        elif hold is not Hold.NONE:
            due = True
        else:
            due = k - int(newest["first_tick"]) >= s_min * tpr
        assert plans_now == due, f"{where}: expected {'a' if due else 'no'} plan"
        if planned is None or not due:
            continue
        done += 1
        if newest is not None and not newest["cold"] and index not in counted:
            is_used = record["chunk"] == index and record["chunk_first_used_tick"] >= 0
            used = int(record["chunk_first_used_tick"]) if is_used else publish
            counted[index] = math.ceil(Fraction(used - int(newest["first_tick"]), tpr))
            counts.append(counted[index])
            late += counted[index] > newest["d_planned"]
        assert planned.previous_d_counted == counted.get(index, -1), where
        assert planned.episode == record["episode"], where
        assert planned.cold == (hold is not Hold.NONE), where
        if planned.cold:
            assert (planned.s, planned.d, planned.previous_chunk) == (0, 0, -1), where
            assert planned.leftover is None, where
            continue
        in_use = run.chunks[int(record["chunk"])]
        row = Fraction(k - int(in_use["first_tick"]), tpr)
        s = min(max(math.ceil(row), 0), H)
        d = min(max(counts[-params.delay_window :], default=params.initial_delay), H - s)
        assert (planned.s, planned.d) == (s, d), where
        assert planned.previous_chunk == record["chunk"], where
        goes_on = np.array([action_at(in_use["actions"], row + i) for i in range(H)])
        np.testing.assert_allclose(np.array(planned.leftover), goes_on, 1e-6, err_msg=where)
    assert done == len(run.plans), "a plan from a record that inference did not look at"
    assert run.algorithm.late == late
