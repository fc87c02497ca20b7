"""What happened in a session that is worth a line: every hold, late chunk and refused chunk, once.

Guarantees:
  - Everything is told from the records, so whoever reads the same records tells the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt.records import Hold, Phase, text
from rt.shm import Ring
from rt.tail import Tail


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened."""

    t_ns: int  # CLOCK_MONOTONIC
    tick: int  # in which it was seen; -1: before the first
    event: str  # what kind
    words: str
    reason: str = ""  # a hold's, by its name in rt.records

    def __str__(self) -> str:
        return self.words if self.tick < 0 else f"tick {self.tick}: {self.words}"


class Events:
    """Follows a session's chunks and its inference, and reads the rest off the tick records."""

    WATCHED = ("hold", "episodes", "expired_chunks", "chunk_first_used_tick")

    def __init__(self, chunks: Ring, inference: Ring, ticks_per_row: int) -> None:
        """`inference`: its status ring."""
        self._ticks_per_row = ticks_per_row
        self._chunks = Tail(chunks)
        self._statuses = Tail(inference)
        self._planned: dict[int, int] = {}  # by chunk that starts where its observation was: d
        self._last: Any = None  # the newest tick that differed from the one before
        self._tick = -1  # the newest
        self._held_since = 0  # the tick
        self._dropped = 0

    def of(self, ticks: NDArray[Any]) -> list[Event]:
        """What happened in `ticks`, consecutive tick records, and in inference meanwhile. Between
        two calls no tick may be left out but what was overwritten."""
        self._take_chunks()  # after the ticks were read, so that each chunk in use is known
        events: list[Event] = []
        for tick in ticks[self._changes(ticks)]:
            events += self._of_tick(tick)
            self._last = tick.copy()
        if len(ticks):
            self._tick = int(ticks["tick"][-1])
        return events + list(self._of_inference(self._tick))

    def _take_chunks(self) -> None:
        chunks = self._chunks.new()
        for index, chunk in enumerate(chunks, self._chunks.seen - len(chunks)):
            if not chunk["cold"]:
                self._planned[index] = int(chunk["d_planned"])

    def _changes(self, ticks: NDArray[Any]) -> NDArray[np.intp]:
        """Indices of the ticks that differ from the one before in what is watched."""
        changed = np.zeros(len(ticks), bool)
        if self._last is None:
            changed[:1] = True
        for name in self.WATCHED:
            before = ticks[name][:1] if self._last is None else self._last[name]
            changed |= np.diff(ticks[name], prepend=before) != 0
        return np.flatnonzero(changed)

    def _of_tick(self, tick: Any) -> Iterator[Event]:
        last, t_ns, k = self._last, int(tick["t_wake"]), int(tick["tick"])
        if last is not None and tick["episodes"] > last["episodes"]:
            won = "with" if tick["successes"] > last["successes"] else "without"
            ended, successes = int(tick["episodes"]), int(tick["successes"])
            words = f"episode {int(last['episode'])} ended {won} success ({successes} of {ended})"
            yield Event(t_ns, k, "episode", words)
        if last is not None and tick["expired_chunks"] > last["expired_chunks"]:
            yield Event(t_ns, k, "expired_chunk", "a chunk came after its last row was due")
        yield from self._of_delay(tick, t_ns, k)
        before = Hold.NONE if last is None else last["hold"]
        if tick["hold"] != before:
            yield self._of_hold(tick, before, t_ns, k)

    def _of_delay(self, tick: Any, t_ns: int, k: int) -> Iterator[Event]:
        """The first use of a chunk: whether it came later than planned."""
        chunk, used = int(tick["chunk"]), int(tick["chunk_first_used_tick"])
        if used < 0 or chunk not in self._planned:
            return
        planned = self._planned.pop(chunk)
        counted = math.ceil((used - int(tick["chunk_first_tick"])) / self._ticks_per_row)
        if counted > planned:
            words = f"chunk {chunk} came late: after {counted} rows, planned were {planned}"
            yield Event(t_ns, k, "late_chunk", words)

    def _of_hold(self, tick: Any, before: int, t_ns: int, k: int) -> Event:
        if tick["hold"] == Hold.NONE:
            count = k - self._held_since
            doing = "executes" if tick["phase"] == Phase.RUN else "moves"
            words = f"{doing} again, after {count} {'tick' if count == 1 else 'ticks'} of hold"
            return Event(t_ns, k, "resumed", words)
        if before == Hold.NONE:
            self._held_since = k
        reason, why = Hold(int(tick["hold"])).name, text(tick["why"])
        return Event(t_ns, k, "hold", f"hold {reason.lower()}" + (why and f": {why}"), reason)

    def _of_inference(self, tick: int) -> Iterator[Event]:
        """Chunks that inference refused to publish. A new process counts from 0."""
        for status in self._statuses.new():
            dropped = int(status["dropped"])
            if dropped > self._dropped:
                words = f"inference refused a chunk: {text(status['detail'])}"
                yield Event(int(status["heartbeat"]), tick, "refused_chunk", words)
            self._dropped = dropped
