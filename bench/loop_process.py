"""A real-time control loop with the simulated robot's driver, in a process of its own.

`python bench/loop_process.py SESSION CORE PRIORITY PERIOD_US SPIN_US SECONDS` prints, as JSON, the
wake errors in us and what the kernel granted.
"""

from __future__ import annotations

import json
import sys

import msgspec
import numpy as np

from rt.config import Realtime
from rt.control import realtime
from rt.control.process import open_loop
from rt.control.ticker import Ticker
from rt.session import Session


def main() -> None:
    name, *numbers = sys.argv[1:]
    core, priority, period_us, spin_us, seconds = map(int, numbers)
    session = Session(name)
    config = session.config()
    loop = open_loop(config, session)
    grants = realtime.enter(Realtime(priority=priority, cpu=core), core, require=False)
    ticker = Ticker(period_us * 1000, spin_ns=spin_us * 1000)
    wake = np.zeros(seconds * 1_000_000 // period_us, np.int64)
    overruns = 0
    for i in range(len(wake)):
        tick = ticker.wait()
        assert tick is not None
        wake[i] = tick.t_wake - tick.t_due
        overruns += ticker.skipped
        loop.tick(tick, skipped=ticker.skipped)
    print(
        json.dumps(
            {
                "p50": float(np.percentile(wake, 50)) / 1e3,
                "p99": float(np.percentile(wake, 99)) / 1e3,
                "max": float(wake.max()) / 1e3,
                "overruns": overruns,
                "fifo": next(g.ok for g in grants if g.name == "scheduler"),
                "grants": msgspec.to_builtins(grants),
            }
        )
    )


if __name__ == "__main__":
    main()
