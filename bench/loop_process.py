"""The real control loop in real time, in a process of its own: as it is, or with a variant.

`python bench/loop_process.py SESSION VARIANT CORE PRIORITY SPIN_US SECONDS` prints `Run` as JSON.
"""

from __future__ import annotations

import sys
import time

import msgspec
import numpy as np
from fed_loop import FedLoop, executing
from feed import CHUNK_EVERY
from numpy.typing import NDArray
from put_back.hooks import Hooks
from put_back.variants import CARELESS, VARIANTS

from rt import clock
from rt.config import Realtime
from rt.control import realtime
from rt.control.ticker import Ticker
from rt.cores import divide
from rt.session import Session


class Run(msgspec.Struct):
    """What one run showed."""

    ticks: list[tuple[int, int, int, int]]  # its number; when it was due, awake and done, ns
    epoch_ns: int
    period_ns: int
    cpu: float  # the share of a core that it used
    refused: dict[str, str]  # what the kernel did not grant, and why

    @property
    def times(self) -> NDArray[np.int64]:
        """(4, n) of `ticks`."""
        return np.array(self.ticks, np.int64).T

    @property
    def wake_ns(self) -> NDArray[np.int64]:
        """How late the loop woke for each tick."""
        _, due, awake, _ = self.times
        late: NDArray[np.int64] = awake - due
        return late

    @property
    def work_ns(self) -> NDArray[np.int64]:
        """How long each took after that."""
        _, _, awake, done = self.times
        took: NDArray[np.int64] = done - awake
        return took

    @property
    def due(self) -> int:
        """How many ticks were due from the first to the last of these."""
        return round((self.ticks[-1][1] - self.ticks[0][1]) / self.period_ns) + 1

    @property
    def lost(self) -> int:
        """How many of them did not happen."""
        return self.due - len(self.ticks)


def drive(fed: FedLoop, hooks: Hooks, seconds: float) -> NDArray[np.int64]:
    """Run it for so long: the (n, 4) `ticks` of a `Run`."""
    first, n = fed.k, 0
    sweeper = realtime.Sweeper(every=round(1e9 / hooks.ticker.period_ns))  # as control has it
    times = np.zeros((round(2e9 * seconds / hooks.ticker.period_ns), 4), np.int64)
    end = clock.now_ns() + round(1e9 * seconds)
    fed.measure()
    while (tick := hooks.wait()) and tick.t_due < end:
        hooks.before()
        fed.loop.tick(tick._replace(k=first + tick.k), skipped=hooks.ticker.skipped)
        hooks.after()
        times[n] = (*tick, clock.now_ns())
        sweeper.after(tick.k)
        n += 1
        fed.k = first + tick.k + 1  # the simulator's and inference's part: a few us
        fed.measure()
        if n % CHUNK_EVERY == 0:
            fed.infer()
    return times[:n]


def main() -> None:
    name, variant, *numbers = sys.argv[1:]
    core, priority, spin_us = map(int, numbers[:3])
    session = Session(name)
    config = session.config()
    others = divide("last").others
    fed = executing(config, session)
    grants = realtime.enter(Realtime(priority=priority, cpu=core), core, require=False)
    ticker = Ticker(config.period_ns, spin_ns=spin_us * 1000)
    hooks = Hooks(ticker, others, ticker.wait)
    with (VARIANTS | CARELESS)[variant](hooks):
        while ticker.wait() and ticker.skipped:
            pass  # the ticks that setting it up took are no concern of the loop's
        began, used = time.monotonic_ns(), time.process_time_ns()
        times = drive(fed, hooks, float(numbers[3]))
        cpu = (time.process_time_ns() - used) / (time.monotonic_ns() - began)
    refused = {g.name: f"{g.granted} ({g.remedy})" for g in grants if not g.ok}
    run = Run(times.tolist(), ticker.epoch_ns, ticker.period_ns, cpu, refused)
    sys.stdout.buffer.write(msgspec.json.encode(run))


if __name__ == "__main__":
    main()
