"""What a trip through the ring costs, as a multiple of what copying its bytes twice costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from budgets import judge
from numpy.typing import NDArray
from ratio import ratio

from rt.shm import Ring

Benchmark = Callable[[Callable[[], object]], object]  # pytest-benchmark's fixture, as used here

CHUNK = np.dtype([("actions", "f4", (50, 24))])
FRAMES = np.dtype([("images", "u1", (3, 3, 240, 320))])  # three cameras
SLOTS = 8


def trip_through_a_ring(writer: Ring, reader: Ring, data: NDArray[Any]) -> Callable[[], object]:
    """begin, fill, commit, read_latest."""
    (field,) = writer.dtype.names or ()
    out = reader.buffer()

    def trip() -> None:
        writer.begin()[field][...] = data
        writer.commit()
        reader.read_latest(out)

    return trip


def two_copies(data: NDArray[Any], arrays: int) -> Callable[[], object]:
    """Into an array (of `arrays`, by turns) and out of it, with nothing else done."""
    middles, target = cycle([data.copy() for _ in range(arrays)]), data.copy()

    def copies() -> None:
        middle = next(middles)
        np.copyto(middle, data)
        np.copyto(target, middle)

    return copies


@pytest.fixture
def name() -> Iterator[str]:
    name = f"rt-bench.{os.getpid()}"
    yield name
    Ring.unlink(name)


# Frames are copied through as many arrays as the ring has slots: eight of them do not fit the
# cache that one fits, and this is about the ring, not about the cache.
@pytest.mark.parametrize(
    ("budget", "what", "dtype", "arrays"),
    [
        ("ring.chunk", "50x24 f32 chunk", CHUNK, 1),
        ("ring.frames", "691 kB of frames", FRAMES, SLOTS),
    ],
    ids=["chunk", "frames"],
)
def test_a_trip_costs_little_more_than_its_copies(
    benchmark: Benchmark, name: str, budget: str, what: str, dtype: np.dtype[Any], arrays: int
) -> None:
    data = np.ones(dtype[0].shape, dtype[0].base)
    with Ring.create(name, dtype, SLOTS) as writer, Ring.attach(name) as reader:
        trip = trip_through_a_ring(writer, reader, data)
        benchmark(trip)
        found = ratio(trip, two_copies(data, arrays))
    found.report(what, "through a ring", f"two np.copyto through {arrays}")
    judge(budget, found.pairs)
