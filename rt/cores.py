"""Cores and schedulers: which core is control's, and how the kernel schedules a process."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rt.errors import ConfigError


class Cores(NamedTuple):
    """`control` is None where control is not pinned; `others` is never empty."""

    control: int | None
    others: tuple[int, ...]


def divide(asked: int | str) -> Cores:
    """Split the cores that this process may use. `asked`: `last`, `none`, or a core's number."""
    available = sorted(os.sched_getaffinity(0))
    if asked == "none" or len(available) == 1:
        return Cores(None, tuple(available))
    core = available[-1] if asked == "last" else int(asked)
    if core not in available:
        raise ConfigError(
            f"robot.yaml: realtime.cpu: expected 'last', 'none' or one of {available} (the cores "
            f"that this process may use), got {asked!r}"
        )
    return Cores(core, tuple(c for c in available if c != core))


def stand_aside(others: Collection[int], nice: int) -> None:
    """Make this process one that only looks: off control's core, and behind all that work.

    others: the session's `other_cores`; empty: whatever this process was given. nice: how far it
    yields, 1 to 19.
    """
    os.nice(nice)
    with suppress(OSError):  # cores that this process may not use
        os.sched_setaffinity(0, others or os.sched_getaffinity(0))


POLICIES = {
    os.SCHED_OTHER: "SCHED_OTHER",
    os.SCHED_FIFO: "SCHED_FIFO",
    os.SCHED_RR: "SCHED_RR",
    os.SCHED_BATCH: "SCHED_BATCH",
    os.SCHED_IDLE: "SCHED_IDLE",
}


class Scheduling(NamedTuple):
    """What the kernel says of a process now."""

    scheduler: str
    priority: int
    cpus: tuple[int, ...]


def scheduling(pid: int) -> Scheduling:
    """Read back how `pid` (0: this process) is scheduled. Raises ProcessLookupError."""
    policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    return Scheduling(
        POLICIES.get(policy, str(policy)),
        os.sched_getparam(pid).sched_priority,
        tuple(sorted(os.sched_getaffinity(pid))),
    )


def cpu_share(pid: int) -> float:
    """How much of one core `pid` has used since it started, all its threads; 1 is a whole core.

    Raises ProcessLookupError.
    """
    try:
        # proc(5): after the name, which may hold anything but its closing bracket at the end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    ticks_hz = os.sysconf("SC_CLK_TCK")
    used_s = (int(fields[11]) + int(fields[12])) / ticks_hz
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return used_s / max(up_s - int(fields[19]) / ticks_hz, 1 / ticks_hz)
