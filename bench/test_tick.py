"""One whole control tick, 24 joints, excluding the wait: the real loop, rings and driver.

The peer is what most Python robot stacks do with one command: send the same record through a
multiprocessing.Pipe and receive it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import Pipe

import numpy as np
import pytest
from proof import report

from rt import clock
from rt.config import Config
from rt.config.load import load_config
from rt.control.loop import ControlLoop
from rt.control.ticker import Tick
from rt.launcher.options import parse
from rt.records import Hold
from rt.robots.sim.robot import SimRobot, rings
from rt.session import Session, ring_table

TICKS = 4000
P50_BUDGET_US, P99_BUDGET_US = 50.0, 200.0


@pytest.fixture
def session() -> Iterator[tuple[Config, Session]]:
    config = load_config(parse(["--robot", "igris_b"])).config
    session = Session(f"bench{os.getpid()}")
    session.create(ring_table(config) | rings(config))
    try:
        yield config, session
    finally:
        session.clean()


def test_tick(session: tuple[Config, Session], benchmark) -> None:  # type: ignore[no-untyped-def]
    config, names = session
    states, chunks = names.writer("sim.state"), names.writer("chunk")
    loop = ControlLoop(
        config,
        SimRobot(config, names),
        ticks=names.writer("tick"),
        chunks=names.reader("chunk"),
        commands=names.reader("command"),
    )
    state, chunk = states.buffer(), chunks.buffer()
    state["position"] = np.nan_to_num(config.initial_rad, nan=0.1)
    chunk["actions"] = state["position"]
    k = 0

    def one_tick() -> int:
        """A new measurement each tick, a new chunk each 25."""
        nonlocal k
        k += 1
        now = clock.now_ns()
        state["t_capture"] = now
        states.write(state)
        if k % 25 == 0:
            chunk["first_tick"] = chunk["obs_tick"] = k - 3
            chunk["episode"] = loop.episode.number
            chunks.write(chunk)
        start = clock.now_ns()
        loop.tick(Tick(k, start, start))
        return clock.now_ns() - start

    while loop.swap.index < 0:
        one_tick()
    took = np.array([one_tick() for _ in range(TICKS)])
    assert int(loop.record["hold"]) == Hold.NONE
    benchmark.pedantic(one_tick, rounds=200)

    ours, theirs = Pipe()
    payload = loop.record.tobytes()

    def pipe() -> int:
        start = clock.now_ns()
        ours.send_bytes(payload)
        theirs.recv_bytes()
        return clock.now_ns() - start

    peer = np.array([pipe() for _ in range(TICKS)])
    p50, p99 = np.percentile(took, [50, 99]) / 1e3
    report(
        "control tick, 24 joints",
        f"p50 {p50:.1f} us, p99 {p99:.1f} us, max {took.max() / 1e3:.0f} us; "
        f"{p50 / (np.median(peer) / 1e3):.1f}x one Pipe send+recv of its record",
    )
    assert p50 <= P50_BUDGET_US
    assert p99 <= P99_BUDGET_US
