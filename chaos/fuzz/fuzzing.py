"""What the fuzz tests share: chance that `--seed` repeats, a hang that is noticed, and what a
sentence is."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from scale import Scale

from rt.errors import RtError

T = TypeVar("T")

LONGEST = 1000  # characters of a sentence that somebody can still read
HANG_S = 20  # of CPU time: what is tried takes milliseconds, and an exponential walk for ever


class Tried:
    """How much was tried, and what became of it."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def __str__(self) -> str:
        total = sum(self.outcomes.values())
        parts = [f"{count} {what}" for what, count in sorted(self.outcomes.items())]
        return f"{total} tried: {', '.join(parts)}"


def fuzz(
    scale: Scale,
    dice: random.Random,
    strategy: st.SearchStrategy[T],
    try_one: Callable[[T], str],
    *,
    share: float = 1.0,
) -> Tried:
    """Have `try_one` judge `share` of the scale's examples; it returns the outcome's name."""
    tried = Tried()

    @seed(dice.getrandbits(32))
    @settings(
        max_examples=max(1, round(share * scale.examples)),
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value: T) -> None:
        with no_hang():
            tried.count(try_one(value))

    run()
    return tried


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail what takes HANG_S of CPU time. Python's own walks only: C code is not interrupted."""

    def hangs(*_: object) -> None:
        raise AssertionError(f"it took {HANG_S} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def outcome(attempt: Callable[[], object], *places: str) -> str:
    """`accepted`, or `refused` in one sentence that names one of `places`."""
    try:
        attempt()
    except RtError as error:
        sentence = str(error)
        assert sentence.isprintable(), f"not one line of text: {sentence!r:.2000}"
        assert len(sentence) <= LONGEST, f"{len(sentence)} characters: {sentence:.2000}"
        assert not places or any(place in sentence for place in places), sentence
        return "refused"
    return "accepted"
