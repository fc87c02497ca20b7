"""A session that nobody touches, looked at now and then for as long as it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from driven import CHILDREN, Driven
from launched import SHM, segments

LOOK_S = 5.0


class Look(NamedTuple):
    """What there was at one moment."""

    t_s: float  # since the first look
    memory_kb: dict[str, int]  # resident, by process
    files: dict[str, int]  # open, by process
    segments: int
    shm_bytes: int
    wake_us: float  # the median, since the look before


class Bystander:
    """Drives a fake robot of its own. Call `look` again and again."""

    def __init__(self, driven: Driven) -> None:
        driven.launch()
        driven.until_at_work()
        self.looks: list[Look] = []
        self.driven = driven
        self._pids = {name: driven.pid(name) for name in ("supervisor", "fake", *CHILDREN)}
        self._last: Any = None  # tick, at the last look
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been watched."""
        return time.monotonic() - self._start

    def look(self) -> None:
        """Once every LOOK_S, whenever it is called."""
        if self.looks and self.seconds - self.looks[-1].t_s < LOOK_S:
            return
        ticks = self.driven.log.since(self._last)
        self._last = self.driven.log.last
        names = segments(self.driven.session)
        self.looks.append(
            Look(
                self.seconds,
                {name: resident_kb(pid) for name, pid in self._pids.items()},
                {name: open_files(pid) for name, pid in self._pids.items()},
                len(names),
                sum((SHM / name).stat().st_size for name in names),
                float(np.median(ticks["t_wake"] - ticks["t_due"])) / 1e3,
            )
        )

    def watch(self, seconds: float) -> None:
        """Look on until it has been watched for so long."""
        while self.seconds < seconds:
            self.look()
            time.sleep(LOOK_S / 10)

    def after(self, seconds: float) -> list[Look]:
        """The looks taken later than that."""
        return [look for look in self.looks if look.t_s >= seconds]


def resident_kb(pid: int) -> int:
    """Memory in use by a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def open_files(pid: int) -> int:
    """How many a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
