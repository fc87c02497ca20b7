"""How the cost of a chunk's ring grows: with the joints, the rows and the readers."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from ratio import cpu_us
from results import keep, report
from transports.receiving import answer, process, reading, time_reads

from rt.records import chunk_dtype
from rt.shm import Ring

JOINTS, ROWS = 24, 50  # where nothing else is said
OTHERS_PERIOD_S = 0.005  # of each further reader, a process of its own
CALLS = 1000

Costs = dict[int, dict[str, list[float]]]  # size → write, read → us in each round


@pytest.fixture
def name() -> str:
    return f"rt-growth.{os.getpid()}"


@pytest.mark.parametrize("axis", ["joints", "rows"])
def test_growth_with_the_chunk(benchmark, name: str, axis: str, long: bool) -> None:  # type: ignore[no-untyped-def]
    sizes = {"joints": (7, 14, 24, 48, 96, 128), "rows": (10, 25, 50, 100, 150, 200)}[axis]
    costs: Costs = {}

    def measure() -> None:
        with ExitStack() as stack:
            rings = {
                size: stack.enter_context(
                    ring(f"{name}.{size}", *((ROWS, size) if axis == "joints" else (size, JOINTS)))
                )
                for size in (sizes if long else (sizes[0], sizes[-1]))
            }
            for _ in range(25 if long else 7):
                for size, calls in rings.items():
                    note(costs, size, calls)

    benchmark.pedantic(measure, rounds=1)
    conclude(axis, costs)


def test_growth_with_the_readers(benchmark, name: str, long: bool) -> None:  # type: ignore[no-untyped-def]
    sizes = (1, 2, 4, 8, 16) if long else (1, 4)
    costs: Costs = {}

    def measure() -> None:
        with ExitStack() as stack:
            calls = stack.enter_context(ring(name, ROWS, JOINTS))
            others = [
                stack.enter_context(process(time_reads, name, OTHERS_PERIOD_S, False))
                for _ in range(max(sizes) - 1)
            ]
            for other in others:
                assert answer(other) == "here"
            for _ in range(25 if long else 7):
                for size in sizes:
                    with reading(others[: size - 1]):
                        note(costs, size, calls)

    benchmark.pedantic(measure, rounds=1)
    conclude("readers", costs)


Calls = dict[str, Callable[[], object]]


@contextmanager
def ring(name: str, rows: int, joints: int) -> Iterator[Calls]:
    """One write and one read of a chunk's ring."""
    try:
        with (
            Ring.create(name, chunk_dtype(rows, joints), 16) as writer,
            Ring.attach(name) as reader,
        ):
            record, out = writer.buffer(), reader.buffer()
            yield {"write": lambda: writer.write(record), "read": lambda: reader.read_latest(out)}
    finally:
        Ring.unlink(name)


def note(costs: Costs, size: int, calls: Calls) -> None:
    """Measure both once more."""
    for what, call in calls.items():
        costs.setdefault(size, {}).setdefault(what, []).append(cpu_us(call, CALLS))


def conclude(axis: str, costs: Costs) -> None:
    """Keep and report the medians."""
    medians = {
        what: {str(size): statistics.median(found[what]) for size, found in costs.items()}
        for what in ("write", "read")
    }
    keep("growth_ring", **{axis: medians})
    report(
        f"a chunk's ring over {axis}",
        "; ".join(
            f"{what} " + ", ".join(f"{size}: {us:.2f} us" for size, us in line.items())
            for what, line in medians.items()
        ),
    )
