"""What rt.control.ticker promises, in simulated time."""

from __future__ import annotations

import numpy as np
import pytest

from rt.control.ticker import Tick, Ticker
from rt.testing import FakeClock

PERIOD = 1000


def ticker_on(clock: FakeClock, spin_ns: int = 0) -> Ticker:
    return Ticker(PERIOD, spin_ns=spin_ns, now_ns=clock.now_ns, sleep_until=clock.sleep_until)


def wait(ticker: Ticker) -> Tick:
    tick = ticker.wait()
    assert tick is not None
    return tick


def test_ticks_are_due_at_epoch_plus_k_periods() -> None:
    clock = FakeClock()
    ticker = ticker_on(clock)
    for k in range(5):
        tick = wait(ticker)
        assert tick == (k, ticker.epoch_ns + k * PERIOD, ticker.epoch_ns + k * PERIOD)
        assert ticker.skipped == 0


def test_the_first_tick_is_due_after_the_ticker_was_made() -> None:
    clock = FakeClock(5_000)
    assert ticker_on(clock).epoch_ns == 5_000 + PERIOD


def test_it_is_never_early_never_twice_and_counts_exactly_what_it_skips() -> None:
    rng = np.random.default_rng(0)
    late = rng.choice([0, 1, 7, 400, 2500], 2000)
    clock = FakeClock(lateness_ns=late.tolist())
    ticker = ticker_on(clock)
    seen = -1
    for _ in range(1000):
        before = clock.t_ns
        tick = wait(ticker)
        assert tick.t_due == ticker.epoch_ns + tick.k * PERIOD
        assert tick.t_wake == clock.t_ns >= tick.t_due, "early"
        assert tick.k == seen + 1 + ticker.skipped, "twice, or not counted"
        due_meanwhile = [
            k for k in range(seen + 1, tick.k) if ticker.epoch_ns + k * PERIOD < before
        ]
        assert ticker.skipped == len(due_meanwhile), "skipped one that was still to come"
        assert tick.t_due >= before, "a tick that was due in the past is not run late"
        seen = tick.k
        clock.advance(int(rng.choice([0, 300, 999, 1000, 1001, 3500, 50_000])))


@pytest.mark.parametrize(
    ("busy", "skipped"),
    [(0, 0), (999, 0), (1000, 0), (1001, 1), (1999, 1), (2000, 1), (2001, 2), (70_500, 70)],
)
def test_after_an_overrun_it_goes_on_with_the_next_due_tick(busy: int, skipped: int) -> None:
    clock = FakeClock()
    ticker = ticker_on(clock)
    wait(ticker)
    clock.advance(busy)
    tick = wait(ticker)
    assert (tick.k, ticker.skipped) == (1 + skipped, skipped)
    after = wait(ticker)
    assert (after.k, ticker.skipped) == (tick.k + 1, 0), "no burst to catch up"
    assert after.t_wake - tick.t_wake == PERIOD


def test_a_late_wake_keeps_its_tick() -> None:
    clock = FakeClock(lateness_ns=[300])
    ticker = ticker_on(clock)
    tick = wait(ticker)
    assert tick == (0, ticker.epoch_ns, ticker.epoch_ns + 300)
    assert wait(ticker).t_wake == ticker.epoch_ns + PERIOD, "and the next one is on time again"


def test_a_signal_that_says_stop_ends_the_wait() -> None:
    clock = FakeClock(lateness_ns=[0, -600])
    ticker = ticker_on(clock)
    wait(ticker)
    assert ticker.wait(lambda: bool(len(clock.sleeps) > 1)) is None
    assert clock.t_ns == ticker.epoch_ns + PERIOD - 600, "at once, not when the tick was due"
    assert wait(ticker).k == 1, "the tick that was not waited for is still to come"


def test_a_signal_that_means_nothing_does_not_make_a_tick_early() -> None:
    clock = FakeClock(lateness_ns=[-900, -400, -1])
    ticker = ticker_on(clock)
    tick = wait(ticker)
    assert (tick.k, tick.t_wake) == (0, ticker.epoch_ns)
    assert clock.sleeps == [ticker.epoch_ns] * 4


def test_the_end_of_a_wait_is_spun_not_slept() -> None:
    clock = FakeClock(step_ns=10)
    ticker = ticker_on(clock, spin_ns=200)
    tick = wait(ticker)
    assert clock.sleeps == [ticker.epoch_ns - 200]
    assert ticker.epoch_ns <= tick.t_wake < ticker.epoch_ns + 10
    clock.advance(PERIOD - 100)
    tick = wait(ticker)
    assert len(clock.sleeps) == 1, "so near to the tick it only spins"
    assert tick.k == 1
    assert tick.t_wake >= tick.t_due


def test_a_spin_can_be_stopped() -> None:
    clock = FakeClock(step_ns=10)
    ticker = ticker_on(clock, spin_ns=2 * PERIOD)
    looks = iter([False, False, True])
    assert ticker.wait(lambda: next(looks)) is None
    assert clock.t_ns < ticker.epoch_ns
