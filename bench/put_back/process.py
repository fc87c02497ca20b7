"""The control loop at 1 kHz with one thing put back, in a process of its own.

In bench/, `python -m put_back.process SESSION VARIANT SECONDS` prints `Run` as JSON.
"""

from __future__ import annotations

import sys

import msgspec
import numpy as np
from fed_loop import FedLoop
from feed import CHUNK_EVERY

from put_back.hooks import Hooks
from put_back.variants import VARIANTS
from rt import clock
from rt.control import realtime
from rt.control.ticker import Tick, Ticker
from rt.cores import divide
from rt.session import Session


class Run(msgspec.Struct):
    """How late each tick woke and how long it worked, ns, and how many of those due were lost."""

    wake: list[int]
    work: list[int]
    lost: int
    seconds: float
    refused: list[str]  # what the kernel did not grant


def measure(fed: FedLoop, hooks: Hooks, seconds: int) -> Run:
    """Run the loop for so long."""
    first = fed.k
    times = np.zeros((2, 2 * seconds * 1_000_000_000 // hooks.ticker.period_ns), np.int64)
    began = now = clock.now_ns()
    done = 0
    while now < began + seconds * 1_000_000_000:
        tick = hooks.wait()
        assert tick is not None
        hooks.before()
        fed.loop.tick(Tick(first + tick.k, tick.t_due, tick.t_wake), skipped=hooks.ticker.skipped)
        hooks.after()
        now = clock.now_ns()
        times[:, done] = tick.t_wake - tick.t_due, now - tick.t_wake
        done += 1
        fed.k = first + tick.k + 1
        fed.measure()
        if done % CHUNK_EVERY == 0:
            fed.infer()
    wake, work = times[:, :done].tolist()
    lost = int((now - began) / hooks.ticker.period_ns) - done
    return Run(wake, work, lost, (now - began) / 1e9, [])


def main() -> None:
    name, variant, seconds = sys.argv[1:]
    session = Session(name)
    config = session.config()
    cores = divide("last")
    fed = FedLoop(config, session)
    grants = realtime.enter(config.robot.realtime, cores.control, require=False)
    ticker = Ticker(config.period_ns)
    hooks = Hooks(ticker, cores.others, ticker.wait)
    with VARIANTS[variant](hooks):
        while ticker.wait():
            if not ticker.skipped:
                break  # the ticks that setting it up took are no concern of the loop's
        run = measure(fed, hooks, int(seconds))
    run.refused = [f"{g.name}: {g.granted} ({g.remedy})" for g in grants if not g.ok]
    sys.stdout.buffer.write(msgspec.json.encode(run))


if __name__ == "__main__":
    main()
