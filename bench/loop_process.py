"""A real-time control loop in a process of its own, fed with measurements and chunks.

`python bench/loop_process.py SESSION CORE PRIORITY SPIN_US RELATIVE SECONDS` prints, as JSON, the
number, due time and wake time of every tick, the epoch and the period (ns), overruns, holds, the
share of a core that the loop used, and what the kernel granted.
"""

from __future__ import annotations

import json
import sys
import time

import msgspec
import numpy as np
from fed_loop import FedLoop

from rt import clock
from rt.config import Realtime
from rt.control import realtime
from rt.control.ticker import Tick, Ticker
from rt.session import Session


class Relative:
    """The negative control: a period's sleep after each tick, instead of until the next is due."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self.epoch_ns = clock.now_ns() + period_ns
        self.skipped = 0
        self._next = 0

    def wait(self) -> Tick:
        time.sleep(self.period_ns / 1e9)
        k = self._next
        self._next += 1
        return Tick(k, self.epoch_ns + k * self.period_ns, clock.now_ns())


def main() -> None:
    name, *numbers = sys.argv[1:]
    core, priority, spin_us, relative = map(int, numbers[:4])
    session = Session(name)
    config = session.config()
    fed = FedLoop(config, session)
    before, held = fed.k, int(fed.loop.record["holds"])
    chunk_every = max(1, round(config.control_hz / 2))
    grants = realtime.enter(Realtime(priority=priority, cpu=core), core, require=False)
    ticks = np.zeros((round(float(numbers[4]) * config.control_hz), 3), np.int64)
    overruns = 0
    ticker: Ticker | Relative = Ticker(config.period_ns, spin_ns=spin_us * 1000)
    if relative:
        ticker = Relative(config.period_ns)
    began, used = time.monotonic_ns(), time.process_time_ns()
    for i in range(len(ticks)):
        tick = ticker.wait()
        assert tick is not None
        ticks[i] = tick
        overruns += ticker.skipped
        fed.k = before + tick.k  # the simulator's and inference's part: a few us
        fed.measure()
        if i % chunk_every == 0:
            fed.infer()
        fed.loop.tick(tick._replace(k=fed.k), skipped=ticker.skipped)
    share = (time.process_time_ns() - used) / (time.monotonic_ns() - began)
    print(
        json.dumps(
            {
                "ticks": ticks.tolist(),
                "epoch": ticker.epoch_ns,
                "period": config.period_ns,
                "overruns": overruns,
                "holds": int(fed.loop.record["holds"]) - held,
                "cpu": share,
                "fifo": next(g.ok for g in grants if g.name == "scheduler"),
                "grants": msgspec.to_builtins(grants),
            }
        )
    )


if __name__ == "__main__":
    main()
