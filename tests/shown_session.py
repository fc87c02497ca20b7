"""A session to look at: what a simulated run wrote, in real rings, at times that were just now."""

from __future__ import annotations

import os
from typing import Any

from bare_session import BareSession
from launched import unique_session
from msgspec.structs import replace

from rt import clock
from rt.config import Config
from rt.testing import SimulatedRun

CHILDREN = ("control", "inference", "sim")
TIMES = ("episode_t_start", "t_due", "t_wake", "t_state", "t_publish")


class Shown(BareSession):
    """With processes that say that they run."""

    def __init__(self, config: Config, children: tuple[str, ...] = CHILDREN) -> None:
        self.now_ns = clock.now_ns()  # when it was played, or made
        named = replace(config, run=replace(config.run, session=unique_session("shown")))
        super().__init__(named, children)
        for child in children:
            self.tell(child)

    def tell(self, child: str, state: bytes = b"running", detail: bytes = b"", **more: Any) -> None:
        """The child's status."""
        fields = {"pid": os.getpid(), "heartbeat": clock.now_ns(), "state": state, "detail": detail}
        self.publish(f"status.{child}", **fields | more)

    def play(self, run: SimulatedRun, ago_s: float = 0.0) -> None:
        """Write what `run` wrote, its last tick `ago_s` ago."""
        self.now_ns = clock.now_ns()
        later = self.now_ns - round(ago_s * 1e9) - int(run.ticks[-1]["t_wake"])
        for ring, records in (("chunk", run.chunks), ("tick", run.ticks)):
            for record in records:
                moved = record.copy()
                for name in set(TIMES) & set(record.dtype.names):
                    moved[name] += later if moved[name] else 0
                if ring == "tick":
                    moved["t_done"] = moved["t_wake"] + 1_000_000  # in the run it was real
                else:
                    moved["t_start"] = moved["t_publish"] - 125_000_000
                self.publish(ring, moved)

    def again(self, **changes: Any) -> None:
        """One tick more, like the last but for `changes`."""
        with self.session.reader("tick") as ticks:
            last = ticks.buffer()
            ticks.read_latest(last)
        self.publish("tick", last, **{"tick": last["tick"] + 1} | changes)
