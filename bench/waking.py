"""The control loop beside cyclictest (rt-tests): C, the same clock, the same absolute sleep.

What cyclictest shows is what the machine can do; what ours shows beyond it is Python's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from feed import session_for
from numpy.typing import NDArray

from rt.config.load import load_config
from rt.cores import divide
from rt.launcher.options import parse

PRIORITY, ABOVE = 45, 80  # of both by turns; of a cyclictest beside the loop
HISTOGRAM_US = 100_000  # cyclictest's; what is later counts as its maximum
HERE = Path(__file__).parent


def control_core() -> int:
    """The core that launch would give control; skips where there is none, no cyclictest, or no
    right to SCHED_FIFO."""
    if shutil.which("cyclictest") is None:
        pytest.skip("cyclictest is missing: apt-get install rt-tests")
    core = divide("last").control
    if core is None:
        pytest.skip("needs two cores: one for control, one for the others")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        pytest.skip(f"SCHED_FIFO is refused: needs root, or rtprio {ABOVE} in limits.d")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return core


@contextmanager
def session_at(rate_hz: int) -> Iterator[str]:
    """The name of a session whose control runs at that rate, for `our_loop`; 20 or 50 rows/s."""
    ticks_per_row = max(1, rate_hz // 20) if rate_hz % 20 == 0 else 1
    values = {"HZ": rate_hz / ticks_per_row, "ticks_per_row": ticks_per_row, "episode_ticks": 0}
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    config = load_config(parse(["--robot", "igris_b", *settings])).config
    with session_for(f"wake{rate_hz}", config) as session:
        yield session.name


def our_loop(
    session: str, core: int, *, seconds: float = 2.0, spin_us: int = 0, relative: bool = False
) -> dict[str, Any]:
    """Run the loop on the session's rings, in a process of its own; see loop_process.py.

    `spin_us` of each wait are spun; `relative`: it sleeps a period after each tick instead.
    Returns what the process prints, `ticks` as an (n, 3) int64 array of k, t_due and t_wake in ns,
    and `p50`, `p99`, `p99.9`, `max` in us.
    """
    numbers = (core, PRIORITY, spin_us, int(relative), seconds)
    ended = subprocess.run(
        [sys.executable, str(HERE / "loop_process.py"), session, *map(str, numbers)],
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = msgspec.json.decode(ended.stdout)
    assert result["fifo"], result["grants"]
    result["ticks"] = np.array(result["ticks"])
    return result | percentiles(wake_ns(result) / 1e3)


def wake_ns(run: dict[str, Any]) -> NDArray[np.int64]:
    """How late each tick of `our_loop` woke, ns."""
    errors: NDArray[np.int64] = run["ticks"][:, 2] - run["ticks"][:, 1]
    return errors


class Cyclictest:
    """A cyclictest on `core`, running from now on."""

    def __init__(
        self, core: int, *, seconds: float, period_us: int, priority: int = PRIORITY
    ) -> None:
        self._process = subprocess.Popen(
            [
                *("cyclictest", "-m", "-q", "-t1", f"-h{HISTOGRAM_US}", "--json=/dev/stdout"),
                *(f"-l{round(seconds * 1e6 / period_us)}", f"-i{period_us}"),
                *(f"-p{priority}", f"-a{core}"),
            ],
            stdout=subprocess.PIPE,
        )

    def late_us(self) -> NDArray[np.int64]:
        """Wait for its end: how late it woke, whole us rounded down, in no order."""
        printed = self._process.communicate()[0].decode()
        assert self._process.returncode == 0, printed
        thread = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])["thread"]["0"]
        counts = {int(us): n for us, n in thread["histogram"].items()}
        beyond = thread["cycles"] - sum(counts.values())
        return np.repeat([*counts, thread["max"]], [*counts.values(), beyond])


def cyclictest(core: int, *, seconds: float, period_us: int) -> NDArray[np.int64]:
    """What `Cyclictest` shows in so many seconds."""
    return Cyclictest(core, seconds=seconds, period_us=period_us).late_us()


def percentiles(late_us: NDArray[Any]) -> dict[str, float]:
    """p50, p99, p99.9 and the maximum."""
    p50, p99, p999 = np.percentile(late_us, [50, 99, 99.9])
    return {
        "p50": float(p50),
        "p99": float(p99),
        "p99.9": float(p999),
        "max": float(late_us.max()),
    }
