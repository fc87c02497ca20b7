"""What rt.clock promises."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rt import clock
from rt.clock import Ticks

MS = 1_000_000


@contextmanager
def interrupted_every(seconds: float) -> Iterator[list[int]]:
    """Within, SIGALRM comes every `seconds`; the list grows by one each time."""
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_now_ns_is_clock_monotonic() -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    now = clock.now_ns()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= now <= after


@pytest.mark.parametrize("ahead_ns", [1, 1000, 50_000, MS, 5 * MS])
def test_sleep_never_returns_early(ahead_ns: int) -> None:
    for _ in range(20):
        due = clock.now_ns() + ahead_ns
        assert clock.sleep_until(due)
        assert clock.now_ns() >= due


def test_sleep_crosses_the_full_second_without_returning_early() -> None:
    due = (clock.now_ns() // clock.NS_PER_S + 1) * clock.NS_PER_S
    assert clock.sleep_until(due)
    assert clock.now_ns() >= due


@pytest.mark.parametrize("t_ns", [-(2**62), -1, 0, 1])
def test_a_time_long_past_returns_at_once(t_ns: int) -> None:
    assert clock.sleep_until(t_ns)


def test_a_time_just_past_returns_at_once() -> None:
    assert clock.sleep_until(clock.now_ns() - 1)


def test_a_signal_ends_the_sleep_early_and_its_handler_has_run() -> None:
    with interrupted_every(0.02) as seen:
        due = clock.now_ns() + 60 * clock.NS_PER_S
        assert clock.sleep_until(due) is False
        assert seen
        assert clock.now_ns() < due


def test_a_handler_that_raises_ends_the_sleep_with_its_exception() -> None:
    def stop(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        with pytest.raises(InterruptedError):
            clock.sleep_until(clock.now_ns() + 60 * clock.NS_PER_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_sleeping_on_after_each_signal_reaches_the_due_time() -> None:
    with interrupted_every(0.005) as seen:
        due = clock.now_ns() + 100 * MS
        while not clock.sleep_until(due):
            pass
        assert clock.now_ns() >= due
        assert seen


def test_other_threads_run_while_one_sleeps() -> None:
    steps, over = [0], threading.Event()

    def other() -> None:
        while not over.wait(0.001):
            steps[0] += 1

    thread = threading.Thread(target=other)
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # from now on we lose the GIL only by letting it go ourselves
    thread.start()
    try:
        for _ in range(100):
            before = steps[0]
            clock.sleep_until(clock.now_ns() + 20 * MS)
            if steps[0] > before:
                break
        else:
            pytest.fail("no other thread ran during a hundred sleeps")
    finally:
        sys.setswitchinterval(switch_interval)
        over.set()
        thread.join()


@pytest.mark.parametrize("period_ns", [1, 3, MS, 50 * MS, 33_333_333])
@pytest.mark.parametrize("epoch_ns", [0, 7, 123_456_789_012_345])
def test_ticks_agree_with_their_due_times(epoch_ns: int, period_ns: int) -> None:
    ticks = Ticks(epoch_ns=epoch_ns, period_ns=period_ns)
    for k in (-2, 0, 1, 17, 10**7):
        due = ticks.due(k)
        assert due == epoch_ns + k * period_ns
        assert ticks.at(due) == k
        assert ticks.at(due - 1) == k - 1
        assert ticks.next_after(due) == k + 1, "a tick due now is not strictly after now"
        assert ticks.next_after(due - 1) == k


def test_ticks_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Ticks(0, 1).period_ns = 2  # type: ignore[misc]
