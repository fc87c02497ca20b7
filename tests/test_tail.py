"""Every record of a ring, in order; what was overwritten before we came is counted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from making import MakeRing

from rt.shm import Ring
from rt.tail import Tail

NUMBER = np.dtype([("n", "i8")])


def publish(ring: Ring, count: int) -> None:
    """The next records of the ring, each with its index."""
    record = ring.buffer()
    for _ in range(count):
        record["n"] = ring.head
        ring.write(record)


def new(tail: Tail) -> list[int]:
    """Their indices."""
    return [int(n) for n in tail.new()["n"]]


class Busy:
    """A ring to which, right after each look at its head, so many records are published."""

    def __init__(self, ring: Ring, counts: Iterator[int]) -> None:
        self._ring = ring
        self._counts = counts

    @property
    def head(self) -> int:
        seen = self._ring.head
        publish(self._ring, next(self._counts, 0))
        return seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ring, name)


def test_each_record_comes_once_and_in_order(make_ring: MakeRing) -> None:
    ring = make_ring(NUMBER, slots=32)
    tail = Tail(ring)
    assert new(tail) == []
    for count in (1, 5, 20):
        first = tail.seen
        publish(ring, count)
        assert new(tail) == list(range(first, first + count))
        assert (new(tail), tail.seen, tail.missed) == ([], first + count, 0)


def test_what_was_overwritten_is_counted(make_ring: MakeRing) -> None:
    ring = make_ring(NUMBER, slots=8)
    tail = Tail(ring)
    publish(ring, 20)
    assert (new(tail), tail.seen, tail.missed) == ([14, 15, 16, 17, 18, 19], 20, 14)


@pytest.mark.parametrize("seen", [0, 7])
def test_what_is_published_while_we_look_is_taken_too(make_ring: MakeRing, seen: int) -> None:
    ring = make_ring(NUMBER, slots=32)
    tail = Tail(Busy(ring, iter([0, 2, 1])))  # type: ignore[arg-type]
    publish(ring, seen)
    assert len(new(tail)) == seen
    publish(ring, 3)
    assert (new(tail), tail.missed) == (list(range(seen, seen + 6)), 0)


def test_a_writer_that_is_always_faster_is_not_run_after_for_ever(make_ring: MakeRing) -> None:
    ring = make_ring(NUMBER, slots=8)
    tail = Tail(Busy(ring, repeat(10)))  # type: ignore[arg-type]
    publish(ring, 3)
    assert (new(tail), tail.missed) == ([17, 18, 19, 20, 21, 22], 17)
