"""Sessions started and stopped, cut short, started twice at once, and side by side."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
from driven import PATIENCE_S
from launched import Launched, run_module, segments, unique_session, until
from reliability import tell
from scale import Scale

LONGEST_START_S = 5.0  # a launch is cut short before that


def interrupt(run: Launched) -> None:
    run.signal(signal.SIGINT)


def terminate(run: Launched) -> None:
    run.signal(signal.SIGTERM)


def order(run: Launched) -> None:
    assert run_module("rt.command", "stop", "--session", run.session).returncode == 0


ENDS: tuple[Callable[[Launched], None], ...] = (order, interrupt, terminate)


def works(run: Launched) -> None:
    """Return once it executes its first chunk."""
    run.when("it to execute a chunk", lambda seen: seen["chunk"]["id"] >= 0, PATIENCE_S)


def ends_in_order(run: Launched) -> None:
    assert run.wait() == 0, run.output
    assert "Traceback" not in run.output, run.output
    run.nothing_left()


def test_one_session_starts_and_stops_again_and_again(scale: Scale) -> None:
    session, seconds = unique_session("starts"), []
    for number in range(scale.starts):
        start = time.monotonic()
        with Launched("starts", session=session) as run:
            works(run)
            seconds.append(time.monotonic() - start)
            ENDS[number % len(ENDS)](run)
            ends_in_order(run)
    tell(
        "starts",
        f"{scale.starts} starts of one session, ended by turns with rt.command stop, Ctrl-C and "
        "SIGTERM",
        "exit code 0, no process and no segment left; its first chunk was executed after "
        f"{np.median(seconds):.1f} s in the median, {max(seconds):.1f} s at most",
    )


def test_a_start_that_is_cut_short_leaves_nothing(scale: Scale, dice: random.Random) -> None:
    cut = max(1, scale.starts // 2)
    for _ in range(cut):
        with Launched("short") as run:
            time.sleep(dice.uniform(0.3, LONGEST_START_S))
            dice.choice((interrupt, terminate))(run)
            ends_in_order(run)
    tell(
        "starts",
        f"{cut} starts cut short by Ctrl-C or SIGTERM after up to {LONGEST_START_S:g} s",
        "exit code 0, no process and no segment left",
    )


def test_of_two_launches_at_the_same_instant_exactly_one_runs(scale: Scale) -> None:
    pairs = max(1, scale.starts // 5)
    for _ in range(pairs):
        session = unique_session("rivals")
        with ExitStack() as stack:
            rivals = [stack.enter_context(Launched("rivals", session=session)) for _ in range(2)]
            loser = until(
                "one to be refused",
                lambda rivals=rivals: next(
                    (r for r in rivals if r.process.poll() is not None), None
                ),
            )
            (winner,) = set(rivals) - {loser}
            assert loser.wait() == 2, loser.output
            assert f"supervisor pid {winner.process.pid}" in loser.output
            assert len(loser.output.splitlines()) == 1
            works(winner)
            winner.stop()
            ends_in_order(winner)
    tell(
        "starts",
        f"{pairs} times two launches of one session at the same instant",
        "one refused, naming the other's pid, which ran undisturbed",
    )


def test_two_sessions_of_two_names_run_side_by_side() -> None:
    with Launched("left") as left, Launched("right") as right:
        works(left)
        works(right)
        assert left.stop() == 0, left.output
        left.nothing_left()
        tick = (right.inspect() or {})["tick"]
        right.when(
            "it to go on", lambda s: s["tick"] > tick + 10 and s["tick_stats"]["hold"] == "NONE"
        )
        assert segments(right.session)
        assert right.stop() == 0, right.output
        right.nothing_left()
    tell("starts", "two sessions of two names, one of which ends", "the other goes on")
