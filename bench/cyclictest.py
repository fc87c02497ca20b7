"""cyclictest (rt-tests), the control loop's peer: C, the same clock, the same absolute sleep.

What it shows is what the machine can do; what ours shows beyond it is Python's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from fed_loop import PRIORITY
from numpy.typing import NDArray

ABOVE = 80  # a priority, for one beside the loop
HISTOGRAM_US = 100_000  # what is later counts as its maximum


def needs_cyclictest() -> None:
    """Skips where there is none."""
    if shutil.which("cyclictest") is None:
        pytest.skip("cyclictest is missing: apt-get install rt-tests")


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
