"""The control loop in real time, on a core of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from fed_loop import PRIORITY
from feed import session_for
from loop_process import Run
from put_back.variants import AS_IT_IS

from rt.config.load import load_config
from rt.cores import divide
from rt.launcher.options import parse

PROCESS = Path(__file__).parent / "loop_process.py"


def control_core() -> int:
    """The core that launch would give control; skips where there is none, or no right to
    SCHED_FIFO."""
    core = divide("last").control
    if core is None:
        pytest.skip("needs two cores: one for control, one for the others")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        pytest.skip("SCHED_FIFO is refused: needs root, or rtprio in limits.d")
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
    session: str, core: int, *, seconds: float = 2.0, spin_us: int = 0, variant: str = AS_IT_IS
) -> Run:
    """Run the loop on the session's rings, in a process of its own. `spin_us` of each wait are
    spun; `variant`: what is put back."""
    numbers = (core, PRIORITY, spin_us, seconds)
    ended = subprocess.run(
        [sys.executable, str(PROCESS), session, variant, *map(str, numbers)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60 + seconds,
    )
    run = msgspec.json.decode(ended.stdout, type=Run)
    assert "scheduler" not in run.refused, run.refused
    return run
