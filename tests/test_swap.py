"""The swap: which chunk and which row every tick executes, or why it holds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from making import MakeRing, Simulate
from oracle import SwapOracle, check_ticks, publish_tick

from rt.control.swap import Swap
from rt.records import Hold, Order, Phase, chunk_dtype
from rt.shm import Ring
from rt.testing import SimulatedRun, config

H, JOINTS = 6, 2


class Bench:
    """A swap and the ring that it reads."""

    def __init__(self, make_ring: MakeRing, ticks_per_row: int = 1) -> None:
        self.ring: Ring = make_ring(chunk_dtype(H, JOINTS))
        self.swap = Swap(Ring.attach(self.ring.name), ticks_per_row)
        self.out = np.full(JOINTS, np.nan)
        self.published = 0

    def publish(self, first_tick: int, **fields: Any) -> Any:
        """A chunk of recognisable actions: chunk number · 1000 + row + joint / 100."""
        self.published += 1
        chunk = self.ring.buffer()
        chunk["actions"] = self.published * 1000 + np.arange(H)[:, None] + np.arange(JOINTS) / 100
        chunk["first_tick"] = chunk["obs_tick"] = first_tick
        for name, value in fields.items():
            chunk[name] = value
        self.ring.write(chunk)
        return chunk

    def tick(self, k: int, episode: int = 0, valid_from: int = -1000) -> Hold:
        self.swap.take_newest(k, episode, valid_from)
        hold = self.swap.target(k, self.out)
        if hold is Hold.NONE:
            self.swap.used(k)
        return hold


@pytest.fixture
def bench(make_ring: MakeRing) -> Bench:
    return Bench(make_ring)


@pytest.mark.parametrize("ticks_per_row", [1, 3, 50])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_published_every_tick_does_what_the_design_says(
    make_ring: MakeRing, ticks_per_row: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    bench = Bench(make_ring, ticks_per_row)
    oracle = SwapOracle(H, ticks_per_row)
    k = episode = valid_from = expired = 0
    holds = set()
    for step in range(1000):
        k += int(
            rng.choice([1, 1, 1, 2, ticks_per_row, H * ticks_per_row], p=[0.2] * 4 + [0.1] * 2)
        )
        if rng.random() < 0.02:
            bench.swap.forget()
            oracle.forget()
            valid_from = k
            episode += int(rng.integers(2))
        chunk = None
        starving = step % 200 < 20
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2]) + 4 * (rng.random() < 0.02)):
            earliest = -H - 2 if starving or rng.random() < 0.3 else -2
            latest = -H if starving else 2
            first = k + int(rng.integers(earliest * ticks_per_row, latest * ticks_per_row + 1))
            actions = rng.normal(size=(H, JOINTS)).astype(np.float32)
            if rng.random() < 0.2:
                actions[rng.integers(H), rng.integers(JOINTS)] = rng.choice(
                    [np.nan, np.inf, -np.inf]
                )
            chunk = bench.publish(
                first,
                obs_tick=k - int(rng.integers(0, 10)),
                episode=episode - int(rng.random() < 0.1),
                actions=actions,
            )
        if chunk is not None:
            expired += oracle.hear(k, bench.published - 1, chunk, episode, valid_from)
        expected = oracle.expect(k)
        hold = bench.tick(k, episode, valid_from)
        holds.add(hold)
        assert (hold, bench.swap.index) == (expected.hold, expected.chunk), f"tick {k}"
        assert bench.swap.expired_chunks == expired
        if expected.row is not None and expected.action is not None:
            assert abs(bench.swap.row - float(expected.row)) < 1e-9
            np.testing.assert_allclose(bench.out, expected.action, rtol=1e-12, atol=1e-12)
            if expected.row.denominator == 1:
                np.testing.assert_array_equal(bench.out, expected.action)
        else:
            assert bench.swap.row == -1
    common = {Hold.NONE, Hold.NO_CHUNK, Hold.NOT_DUE, Hold.EXPIRED, Hold.STARVED, Hold.NOT_FINITE}
    assert holds == common, "the script reached every outcome"


def test_publication_is_the_swap(bench: Bench) -> None:
    bench.publish(10)
    assert [bench.tick(k) for k in (10, 11, 12)] == [Hold.NONE] * 3
    assert bench.out[0] == 1002
    bench.publish(11)
    assert bench.tick(13) is Hold.NONE
    assert bench.out[0] == 2002, "the very next tick executes the new chunk, at its own row"
    assert bench.swap.first_used_tick == 13


@pytest.mark.parametrize("late", range(H))
def test_a_late_chunk_enters_at_the_row_of_the_tick(bench: Bench, late: int) -> None:
    bench.publish(10)
    assert bench.tick(10 + late) is Hold.NONE
    np.testing.assert_allclose(bench.out, [1000 + late, 1000.01 + late], rtol=1e-6)
    assert bench.swap.row == late


def test_a_chunk_that_is_not_due_waits_and_the_one_before_goes_on(bench: Bench) -> None:
    bench.publish(10)
    bench.tick(10)
    bench.publish(13)
    rows = []
    for k in range(11, 16):
        assert bench.tick(k) is Hold.NONE
        rows.append(bench.out[0])
    assert rows == [1001, 1002, 2000, 2001, 2002]


def test_nothing_before_the_first_chunk_is_due(bench: Bench) -> None:
    assert bench.tick(8) is Hold.NO_CHUNK
    bench.publish(10)
    assert bench.tick(9) is Hold.NOT_DUE
    assert bench.tick(10) is Hold.NONE
    assert bench.out[0] == 1000


def test_after_the_last_row_it_holds(bench: Bench) -> None:
    bench.publish(10)
    assert bench.tick(10 + H - 1) is Hold.NONE
    assert bench.out[0] == 1000 + H - 1
    assert bench.tick(10 + H) is Hold.EXPIRED
    assert bench.tick(10 + 100 * H) is Hold.EXPIRED
    assert bench.swap.row == -1


def test_the_last_row_lasts_as_long_as_the_others(make_ring: MakeRing) -> None:
    bench = Bench(make_ring, ticks_per_row=3)
    bench.publish(0)
    values = []
    for k in range(3 * H):
        assert bench.tick(k) is Hold.NONE
        values.append(bench.out[0] - 1000)
    steps = [min(k / 3, H - 1) for k in range(3 * H)]
    np.testing.assert_allclose(values, steps, atol=1e-9)
    assert bench.tick(3 * H) is Hold.EXPIRED


def test_three_chunks_that_arrive_expired_are_starvation_and_a_good_one_ends_it(
    bench: Bench,
) -> None:
    holds = []
    for k in (100, 101, 102, 103):
        bench.publish(k - H)
        holds.append(bench.tick(k))
    assert holds == [Hold.NO_CHUNK, Hold.NO_CHUNK, Hold.STARVED, Hold.STARVED]
    assert bench.swap.expired_chunks == 4
    assert bench.tick(104) is Hold.STARVED
    bench.publish(104)
    assert bench.tick(105) is Hold.NONE
    bench.publish(90)
    assert bench.tick(106) is Hold.NONE, "an expired one does not stop the one in use"
    assert bench.tick(104 + H) is Hold.EXPIRED, "and the count began anew"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ticks_per_row", [1, 3])
def test_only_ticks_that_touch_a_bad_row_hold_and_nothing_warns(
    make_ring: MakeRing, bad: float, ticks_per_row: int
) -> None:
    bench = Bench(make_ring, ticks_per_row)
    actions = np.ones((H, JOINTS), np.float32)
    actions[2:4, 1] = bad
    bench.publish(0, actions=actions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held = [k for k in range(H * ticks_per_row) if bench.tick(k) is Hold.NOT_FINITE]
    first = 2 if ticks_per_row == 1 else ticks_per_row + 1
    assert held == list(range(first, 4 * ticks_per_row))


def test_a_chunk_of_another_episode_is_never_executed(bench: Bench) -> None:
    bench.publish(10, episode=1)
    bench.tick(10, episode=1)
    bench.publish(10, episode=2)
    assert bench.tick(11, episode=1) is Hold.NONE
    assert bench.out[0] == 1001, "it went on with the chunk of its own episode"
    bench.swap.forget()
    bench.publish(12, episode=1)
    assert [bench.tick(k, episode=2) for k in (12, 13, 14)] == [Hold.NO_CHUNK] * 3
    assert bench.swap.expired_chunks == 0, "it was not late, it was not ours"


def test_a_chunk_observed_before_valid_from_is_never_executed(bench: Bench) -> None:
    bench.publish(12, obs_tick=9)
    assert [bench.tick(k, valid_from=10) for k in (12, 13)] == [Hold.NO_CHUNK] * 2
    bench.publish(12, obs_tick=10)
    assert bench.tick(14, valid_from=10) is Hold.NONE


def test_what_was_forgotten_does_not_come_back(bench: Bench) -> None:
    bench.publish(10)
    bench.tick(10)
    bench.publish(12)
    bench.tick(11)
    bench.swap.forget()
    assert [bench.tick(k) for k in (12, 13)] == [Hold.NO_CHUNK] * 2
    assert (bench.swap.index, bench.swap.first_used_tick) == (-1, -1)


# Control and inference together.


def simulated(simulate: Simulate, **options: Any) -> SimulatedRun:
    run_options = {name: options.pop(name) for name in ("delay", "busy") if name in options}
    options = {"action_chunk_size": H, "min_num_actions_executed": 3, **options}
    return simulate(config(**options), **run_options)


@pytest.mark.parametrize("s_min", [1, 3, H - 1])
@pytest.mark.parametrize("delay", range(H + 6))
def test_every_row_is_right_at_every_delay(simulate: Simulate, delay: int, s_min: int) -> None:
    run = simulated(simulate, delay=lambda n: delay + 0.5, min_num_actions_executed=s_min)
    run.tick(100)
    expected = check_ticks(run)
    executed = sum(e.row is not None for e in expected)
    assert executed > 10
    if delay + 1 + max(delay + 1, s_min) <= H:
        first = next(i for i, e in enumerate(expected) if e.row is not None)
        assert all(e.row is not None for e in expected[first:]), "in time: it never holds"


@pytest.mark.parametrize(("ticks_per_row", "rows"), [(3, 60), (50, 12)])
@pytest.mark.parametrize("delay", [0, 0.34, 1.6, 3, H - 2.99, H + 0.3, H + 5])
def test_every_fractional_row_is_right(
    simulate: Simulate, ticks_per_row: int, rows: int, delay: float
) -> None:
    run = simulated(simulate, delay=lambda n: delay * ticks_per_row, ticks_per_row=ticks_per_row)
    run.tick(round(0.25 * run.config.control_hz) + rows * ticks_per_row)
    assert any(e.row is not None and e.row.denominator > 1 for e in check_ticks(run))


@pytest.mark.parametrize("ticks_per_row", [1, 3])
@pytest.mark.parametrize("margin", [0.0, 0.5, 0.9, 0.9999])
def test_every_row_is_right_with_spikes_and_overruns(
    simulate: Simulate, ticks_per_row: int, margin: float
) -> None:
    spikes = (1, 2, 3, H + 2, 1, 1, 2 * H, 0, 4, 2)
    busy = (0, 0, 2.3, 0, 0.7, 0, 0, 1.0, 0, 0, 7.5)
    run = simulated(
        simulate,
        delay=lambda n: spikes[n % len(spikes)] * ticks_per_row + margin,
        busy=lambda k: busy[k % len(busy)],
        ticks_per_row=ticks_per_row,
    )
    run.tick(250 * ticks_per_row)
    check_ticks(run)
    assert run.ticks[-1]["overruns"] == run.ticks[-1]["tick"] - 250 * ticks_per_row + 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ticks_per_row", [1, 3])
def test_every_row_is_right_with_pauses_resets_and_lost_state_in_between(
    simulate: Simulate, seed: int, ticks_per_row: int
) -> None:
    rng = np.random.default_rng(seed)
    delays = rng.uniform(0, (H + 3) * ticks_per_row, 400)
    run = simulated(
        simulate,
        delay=lambda n: delays[n],
        busy=lambda k: 4.2 if rng.random() < 0.03 else 0.0,
        ticks_per_row=ticks_per_row,
    )
    for _ in range(300 * ticks_per_row):
        if rng.random() < 0.1 / ticks_per_row:
            paused = bool(run.ticks) and run.ticks[-1]["phase"] == Phase.PAUSED
            other = Order(rng.choice([Order.PAUSE, Order.NEXT_EPISODE]))
            run.order(Order.RESUME if paused else other)
        run.robot.reading = "none" if rng.random() < 0.03 else "fresh"
        run.tick()
    check_ticks(run)
    assert run.ticks[-1]["episode"] > 1
    assert any(r["phase"] == Phase.PAUSED for r in run.ticks)


def test_a_chunk_from_before_a_pause_or_a_reset_is_never_executed(simulate: Simulate) -> None:
    for order, then in ((Order.PAUSE, Order.RESUME), (Order.NEXT_EPISODE, None)):
        run = simulated(simulate, delay=lambda n: 2.5 if n < 3 else 4.5)
        while len(run.plans) < 3:
            run.tick()
        run.order(order)  # inference 3 is under way
        run.tick()
        if then:
            run.order(then)
        while len(run.chunks) < 5:
            run.tick()
        check_ticks(run)
        assert run.chunks[2]["obs_tick"] < run.ticks[-1]["valid_from_tick"]
        assert not any(r["command"][0] // 1000 == 3 for r in run.ticks)
        assert any(r["command"][0] // 1000 == 4 for r in run.ticks)


@pytest.mark.parametrize("ticks_per_row", [1, 3])
@pytest.mark.parametrize("delay", [0, 0.5, 1.9999, 2.2])
def test_a_chunk_is_used_by_the_first_tick_after_its_publication(
    simulate: Simulate, delay: float, ticks_per_row: int
) -> None:
    run = simulated(simulate, delay=lambda n: delay, ticks_per_row=ticks_per_row)
    run.tick(60 * ticks_per_row)
    used = {int(r["chunk"]): int(r["chunk_first_used_tick"]) for r in run.ticks if r["row"] >= 0}
    warm = [i for i in used if not run.chunks[i]["cold"]]
    assert len(warm) > 10
    for index in warm:
        chunk = run.chunks[index]
        t_used = run.ticker.epoch_ns + used[index] * run.config.period_ns
        assert used[index] == publish_tick(run, chunk)
        assert 0 < t_used - int(chunk["t_publish"]) <= run.config.period_ns


def test_a_cold_chunk_is_entered_at_its_first_row(simulate: Simulate) -> None:
    for delay in (0, 0.5, 3.9999, H + 4.2):
        run = simulated(simulate, delay=lambda n, delay=delay: delay)
        run.tick(40)
        for index, chunk in enumerate(run.chunks[:-1]):
            rows = [float(r["row"]) for r in run.ticks if r["chunk"] == index and r["row"] >= 0]
            if chunk["cold"]:
                assert rows[0] == 0, "the robot has not moved: entering later would be a jump"
