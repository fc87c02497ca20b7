"""Tick statistics: percentiles as close as they say, and no tick lost or counted twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from launched import unique_session

from rt.records import tick_dtype
from rt.session import ring_name
from rt.shm import Ring
from rt.statistics import Distribution, TickStatistics

SLOTS = 40  # a quarter of which is left to the writer


def test_percentiles_are_within_two_percent_and_the_maximum_is_exact() -> None:
    durations = np.random.default_rng(0).lognormal(11, 1, 100_000).astype(np.int64)
    distribution = Distribution()
    for part in np.array_split(durations, 17):
        distribution.add(part)
    assert distribution.count == len(durations)
    for percent in (50, 99, 99.9):
        exact = np.percentile(durations, percent) / 1e3
        assert distribution.percentile_us(percent) == pytest.approx(exact, rel=0.021)
    assert distribution.summary()["max"] == pytest.approx(durations.max() / 1e3, abs=0.1)


def test_the_sum_is_exact_and_limits_are_kept_within_two_percent() -> None:
    durations = np.random.default_rng(1).lognormal(11, 2, 100_000).astype(np.int64)
    distribution = Distribution()
    for part in np.array_split(durations, 17):
        distribution.add(part)
    assert distribution.sum_ns == durations.sum()
    limits = np.array([0.0, 100.0, 1e3, 3.3e4, 1e6, 1e11, 1e12])
    counted = distribution.within(limits)
    for limit, count in zip(limits, counted, strict=True):
        assert (durations <= limit).sum() <= count <= (durations <= max(100, 1.021 * limit)).sum()
    assert counted[-1] == distribution.count


def test_nothing_added_is_zero() -> None:
    nothing = Distribution()
    assert nothing.summary() == {"p50": 0.0, "p99": 0.0, "p99.9": 0.0, "max": 0.0}
    assert (nothing.sum_ns, nothing.within(np.array([1e3, 1e12]))) == (0, [0, 0])


@pytest.fixture
def ticks() -> Iterator[Ring]:
    name = ring_name(unique_session("stats"), "tick")
    with Ring.create(name, tick_dtype(2, 2), slots=SLOTS) as ring:
        yield ring
    Ring.unlink(name)


def write(ring: Ring, k: int) -> None:
    record = ring.buffer()
    record["tick"], record["t_due"] = k, k * 1000
    record["t_wake"], record["t_done"] = k * 1000 + 10, k * 1000 + 30
    ring.write(record)


def test_every_tick_is_taken_once(ticks: Ring) -> None:
    statistics = TickStatistics(ticks)
    seen: list[int] = []
    k = 0
    for burst in (0, 1, 7, 0, 20, 3):
        for _ in range(burst):
            write(ticks, k)
            k += 1
        seen += statistics.update()["tick"].tolist()
    assert seen == list(range(k))
    assert (statistics.missed, statistics.work.count) == (0, k)
    assert statistics.rate_hz == pytest.approx(1e6)
    assert int(statistics.last["tick"]) == k - 1


def test_overwritten_ticks_are_counted_as_missed(ticks: Ring) -> None:
    statistics = TickStatistics(ticks)
    for k in range(50):
        write(ticks, k)
    seen = statistics.update()["tick"].tolist()
    assert seen == list(range(20, 50))
    assert statistics.missed == 20
