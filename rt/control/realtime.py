"""Ask the kernel for real time, then read back what it gave.

Losing SCHED_FIFO without noticing is the commonest failure in the field, so nothing here is
believed until it has been read back, and each thing that was not granted names its remedy.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from pathlib import Path

import msgspec

from rt.config import Realtime
from rt.cores import scheduling
from rt.errors import RealtimeError

MCL_CURRENT, MCL_FUTURE = 1, 2
CAP_IPC_LOCK = 14


class Grant(msgspec.Struct, frozen=True):
    """One thing asked of the kernel, and what it gave."""

    name: str
    asked: str
    granted: str
    ok: bool
    remedy: str = ""


def enter(asked: Realtime, core: int | None, *, require: bool) -> tuple[Grant, ...]:
    """Make this process real-time, as far as the kernel lets it. Call it last before the loop.

    `core`: the core that the supervisor chose for us; None: it chose none.
    Raises RealtimeError when `require` and something asked for was not granted.
    """
    grants = (
        _collector(),
        _affinity(asked.cpu, core),
        _memory(),
        _dma_latency(),
        _scheduler(asked.priority),
    )
    missing = [g for g in grants if not g.ok]
    if require and missing:
        raise RealtimeError(
            "--require_rt: not granted: "
            + "; ".join(f"{g.name} (asked {g.asked}, got {g.granted}; {g.remedy})" for g in missing)
        )
    return grants


def _collector() -> Grant:
    """No garbage-collection pause can hit a tick; what exists now is never scanned again."""
    gc.collect()
    gc.freeze()
    gc.disable()
    state = "on" if gc.isenabled() else "off"
    return Grant("garbage collector", "off", state, state == "off")


class Sweeper:
    """Frees what was left behind in cycles: a driver's ctypes.cast makes them, and with the
    collector off they would add up. Young objects alone are looked at, which takes microseconds;
    what lives on is never looked at again."""

    def __init__(self, every: int) -> None:
        """`every`: ticks between two sweeps."""
        self._every = every
        self._swept = 0  # the tick of the last sweep

    def after(self, k: int) -> None:
        """Tick `k` is done: sweep if it is time."""
        if k >= self._swept + self._every:
            gc.collect(0)
            self._swept = k


def _affinity(asked: int | str, core: int | None) -> Grant:
    remedy = "give this process at least two cores, so that control has one to itself"
    if core is None:
        return Grant("core", str(asked), "any", asked == "none", remedy)
    os.sched_setaffinity(0, {core})
    got = scheduling(0).cpus
    return Grant("core", str(core), ",".join(map(str, got)), got == (core,), remedy)


def _memory() -> Grant:
    """Lock our pages: a page fault is a disk access in the worst tick.

    MCL_FUTURE only where the limit cannot be hit: with a finite RLIMIT_MEMLOCK mlockall succeeds
    and a later, innocent allocation fails.
    """
    unlimited = (
        resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
        or _capabilities() >> CAP_IPC_LOCK & 1
    )
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.mlockall(MCL_CURRENT | (MCL_FUTURE if unlimited else 0))
    error = os.strerror(ctypes.get_errno()) if failed else ""
    locked_kb = int(_status_field("VmLck").split()[0])
    return Grant(
        "memory lock",
        "all",
        error or f"{locked_kb // 1024} MiB" + ("" if unlimited else ", none allocated later"),
        not failed and locked_kb > 0,
        "sudo prlimit --memlock=unlimited --pid $$, or memlock unlimited in /etc/security/limits.d",
    )


def _dma_latency() -> Grant:
    """Hold /dev/cpu_dma_latency at 0, so that the core never sleeps deeply.

    The request lasts as long as the file is open: the descriptor is kept until this process ends.
    """
    path = Path("/dev/cpu_dma_latency")
    remedy = f"sudo chmod o+rw {path}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return Grant("cpu latency", "0 us", error.strerror or str(error), False, remedy)
    try:
        os.write(fd, (0).to_bytes(4, "little"))
        got = int.from_bytes(os.pread(fd, 4, 0), "little", signed=True)
    except OSError as error:
        return Grant("cpu latency", "0 us", error.strerror or str(error), False, remedy)
    return Grant("cpu latency", "0 us", f"{got} us", got == 0, remedy)


def _scheduler(priority: int) -> Grant:
    remedy = "sudo setcap cap_sys_nice+ep on python, or rtprio 50 in /etc/security/limits.d"
    try:
        # RESET_ON_FORK: nothing that we might start inherits real time.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
        error = ""
    except OSError as refused:
        error = f" ({refused.strerror})"
    got = scheduling(0)
    granted = got.scheduler == "SCHED_FIFO" and got.priority == priority
    return Grant(
        "scheduler",
        f"SCHED_FIFO {priority}",
        f"{got.scheduler} {got.priority}{error}",
        granted,
        remedy,
    )


def _status_field(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    return "0"


def _capabilities() -> int:
    return int(_status_field("CapEff"), 16)
