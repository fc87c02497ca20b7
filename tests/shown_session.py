"""A session as it lies in shared memory, without processes: what a simulated run wrote, in real
rings, at times that were just now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from launched import unique_session
from msgspec.structs import replace

from rt import clock
from rt.config import Config
from rt.records import STATUS
from rt.session import Lock, Session, ring_table
from rt.shm import Ring
from rt.testing import SimulatedRun

CHILDREN = ("control", "inference", "sim")
TIMES = ("episode_t_start", "t_due", "t_wake", "t_state", "t_publish")


class Shown:
    """Its rings, and who holds its lock."""

    def __init__(self, config: Config, children: tuple[str, ...] = CHILDREN) -> None:
        name = unique_session("shown")
        self.now_ns = clock.now_ns()  # when it was played, or made
        self.config = replace(config, run=replace(config.run, session=name))
        self.session = Session(name)
        self.lock = Lock(name, "supervisor")
        statuses = {f"status.{child}": (STATUS, 8) for child in children}
        self.session.create(ring_table(self.config) | statuses)
        self.session.publish_config(self.config)
        self._writers: dict[str, Ring] = {}
        for child in children:
            self.tell(child)

    def writer(self, ring: str) -> Ring:
        if ring not in self._writers:
            self._writers[ring] = self.session.writer(ring)
        return self._writers[ring]

    def write(self, ring: str, **fields: Any) -> None:
        """A record with these fields."""
        record = self.writer(ring).buffer()
        for name, value in fields.items():
            record[name] = value
        self.writer(ring).write(record)

    def tell(self, child: str, state: bytes = b"running", detail: bytes = b"", **more: Any) -> None:
        """The child's status."""
        fields = {"pid": os.getpid(), "heartbeat": clock.now_ns(), "state": state, "detail": detail}
        self.write(f"status.{child}", **fields | more)

    def play(self, run: SimulatedRun, ago_s: float = 0.0) -> None:
        """Write what `run` wrote, its last tick `ago_s` ago."""
        self.now_ns = clock.now_ns()
        later = self.now_ns - round(ago_s * 1e9) - int(run.ticks[-1]["t_wake"])
        for ring, records in (("chunk", run.chunks), ("tick", run.ticks)):
            for record in records:
                moved = self.writer(ring).buffer()
                moved[...] = record
                for name in set(TIMES) & set(record.dtype.names):
                    moved[name] += later if moved[name] else 0
                if ring == "tick":
                    moved["t_done"] = moved["t_wake"] + 1_000_000  # in the run it was real
                else:
                    moved["t_start"] = moved["t_publish"] - 125_000_000
                self.writer(ring).write(moved)

    def again(self, **changes: Any) -> None:
        """One tick more, like the last but for `changes`."""
        with self.session.reader("tick") as ticks:
            last = ticks.buffer()
            ticks.read_latest(last)
        fields = {name: last[name] for name in last.dtype.names or ()}
        self.write("tick", **fields | {"tick": last["tick"] + 1} | changes)

    def end(self) -> None:
        """As a supervisor ends it."""
        self.lock.release()

    def close(self) -> None:
        self.end()
        for ring in self._writers.values():
            ring.close()
        self.session.clean()


@contextmanager
def shown_session(config: Config, **options: Any) -> Iterator[Shown]:
    shown = Shown(config, **options)
    try:
        yield shown
    finally:
        shown.close()
