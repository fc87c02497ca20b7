"""What is shown of a running session, gathered from its rings.

Guarantees:
  - Attaches read-only and registers nothing: a writer cannot notice it, nor be held up by it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any, NamedTuple, Self

from numpy.typing import NDArray

from rt import clock
from rt.cli import is_live
from rt.config import Config
from rt.dashboard.sparkline import Worst
from rt.events import Event, Events
from rt.session import Session
from rt.snapshot import Snapshots
from rt.statistics import TickStatistics

LOOK_S = 0.2  # between two looks at the rings, at most: at 1 kHz they come round in two seconds
SPANS = 32  # of the jitter's bars
EVENTS = 100  # remembered


class Look(NamedTuple):
    """A session at one moment."""

    now_ns: int
    config: Config
    snapshot: dict[str, Any]
    statistics: TickStatistics  # of every tick since we came, and of those that the ring still had
    span_s: float  # of a bar
    worst_ns: list[int | None]  # (SPANS,) how late the loop woke, the worst of each span
    holds: Counter[int]  # ticks by `Hold`
    executed: set[int]  # rows of the chunk in use
    events: list[Event]  # oldest first

    @property
    def silent_s(self) -> float | None:
        """Since the last tick; None before the first."""
        last = self.statistics.last
        return None if last is None else (self.now_ns - int(last["t_done"])) / 1e9

    @property
    def end(self) -> str:
        """How the session ended, as a sentence, if it has."""
        failed = [
            f"{process['name']} failed: {process['detail']}"
            for process in self.snapshot["processes"]
            if process["state"] == "failed"
        ]
        name, tick = self.snapshot["session"], self.snapshot["tick"]
        place = f"at tick {tick}" if tick >= 0 else "before its first tick"
        return "; ".join([f"session {name!r} has ended {place}", *failed])


class Watched:
    """Follows every tick of a session. A context manager."""

    def __init__(self, session: Session, span_s: float) -> None:
        """Raises NoSessionError when the session is just starting or ending."""
        self._session = session
        self._snapshots = Snapshots(session)
        self.config = self._snapshots.config
        rings, params = self._snapshots.rings, self.config.params
        self.ticks, self.chunks = rings["tick"], rings["chunk"]
        self._statistics = TickStatistics(self.ticks)
        self._events = Events(self.chunks, rings["status.inference"], params.ticks_per_row)
        self._told: deque[Event] = deque(maxlen=EVENTS)
        self._span_s = span_s
        self._worst = Worst(round(span_s * 1e9), SPANS)
        self._holds: Counter[int] = Counter()
        self._chunk = -1  # in use
        self._executed: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the rings."""
        self._snapshots.close()

    def follow(self, seconds: float) -> bool:
        """Take in what happens for so long. False: the session has ended."""
        end = time.monotonic() + seconds
        while True:
            live = is_live(self._session.name)  # before the last look, which is to miss nothing
            self._take(self._statistics.update())
            left = end - time.monotonic()
            if not live or left <= 0:
                return live
            time.sleep(min(left, LOOK_S))

    def look(self) -> Look:
        """How it is now."""
        snapshot = self._snapshots.take()
        return Look(
            now_ns=clock.now_ns(),
            config=self.config,
            snapshot=snapshot,
            statistics=self._statistics,
            span_s=self._span_s,
            worst_ns=self._worst.values,
            holds=self._holds,
            executed=self._executed if snapshot["chunk"]["id"] == self._chunk else set(),
            events=list(self._told),
        )

    def _take(self, ticks: NDArray[Any]) -> None:
        self._told.extend(self._events.of(ticks, self._statistics.missed))
        if not len(ticks):
            return
        self._worst.add(ticks["t_due"], ticks["t_wake"] - ticks["t_due"])
        self._holds.update(ticks["hold"][ticks["hold"] > 0].tolist())
        if ticks["chunk"][-1] != self._chunk:
            self._chunk, self._executed = int(ticks["chunk"][-1]), set()
        row = ticks["row"][ticks["chunk"] == self._chunk]
        row = row[(row >= 0) & (row < self.config.params.action_chunk_size)]  # no NaN either
        self._executed.update(row.astype(int).tolist())
