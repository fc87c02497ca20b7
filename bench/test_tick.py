"""One whole control tick, 24 joints, excluding the wait: the real loop, rings and driver.

The peer is what most Python robot stacks do with one command: send the same record through a
multiprocessing.Pipe and receive it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from multiprocessing import Pipe

import numpy as np
import pytest
from budgets import judge
from fed_loop import FedLoop, as_control, executing
from feed import session_for
from results import report

from rt import clock
from rt.testing import TWO_ARMS, config

ROUNDS, TICKS = 15, 1000


@pytest.fixture
def fed() -> Iterator[FedLoop]:
    chosen = config(TWO_ARMS, action_chunk_size=50)
    with session_for("tick", chosen) as session:
        yield executing(chosen, session)


def pipe_of(payload: bytes) -> Callable[[int], list[int]]:
    """How long it takes to send `payload` and receive it, ns, so many times."""
    near, far = Pipe()

    def trips(count: int) -> list[int]:
        took = []
        for _ in range(count):
            start = clock.now_ns()
            near.send_bytes(payload)
            far.recv_bytes()
            took.append(clock.now_ns() - start)
        return took

    return trips


def test_tick(fed: FedLoop, benchmark) -> None:  # type: ignore[no-untyped-def]
    trips = pipe_of(fed.loop.record.tobytes())
    rounds = []
    with as_control():
        benchmark.pedantic(
            lambda: rounds.append((fed.back_to_back(TICKS), trips(TICKS))), rounds=ROUNDS
        )
    p50, p99 = np.percentile(np.array(rounds), [50, 99], axis=2) / 1e3  # (rounds, side) each
    report(
        "control tick, 24 joints, back to back",
        f"p50 {np.median(p50[:, 0]):.1f} us, p99 {np.median(p99[:, 0]):.1f} us; one Pipe send and "
        f"receive of its record p50 {np.median(p50[:, 1]):.1f}, p99 {np.median(p99[:, 1]):.1f} us",
    )
    judge("tick.p50", (p50[:, 0] / p50[:, 1]).tolist())
    judge("tick.p99", (p99[:, 0] / p99[:, 1]).tolist())
