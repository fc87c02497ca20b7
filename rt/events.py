"""What happened in a session that is worth a line: every hold, late chunk, refused chunk and
missing answer, once.

Guarantees:
  - Everything is told from the records, so whoever reads the same records tells the same.
  - What was overwritten before we came is told as missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt.records import UNANSWERED, Hold, Outcome, Phase, counted_delay, named, text
from rt.shm import Ring
from rt.tail import Tail

# Words that differ in these alone are the same: a count-down, an age that grows.
FIGURES = re.compile(r"[\d.]+")
NO_OUTCOMES = np.zeros(len(Outcome), np.int64)


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened."""

    t_ns: int  # CLOCK_MONOTONIC
    tick: int  # in which it was seen; -1: before the first
    kind: str = msgspec.field(name="event")  # as JSON, a line of the log tells an event
    words: str
    # A hold's or a missing answer's, by its name in rt.records; of a refused chunk what was wrong.
    reason: str = ""

    def __str__(self) -> str:
        return self.words if self.tick < 0 else f"tick {self.tick}: {self.words}"


class Counted(NamedTuple):
    """A chunk whose delay inference has counted."""

    observed: int  # the tick of its observation
    counted_in: int  # the tick in whose record its use was looked for
    d: int


class Events:
    """Follows a session's chunks and its inference, and reads the rest off the tick records."""

    WATCHED = ("hold", "why", "episodes", "expired_chunks", "chunk_first_used_tick")

    def __init__(self, chunks: Ring, inference: Ring, ticks_per_row: int) -> None:
        """`inference`: its status ring."""
        self._ticks_per_row = ticks_per_row
        self._chunks = Tail(chunks)
        self._statuses = Tail(inference)
        self._planned: dict[int, int] = {}  # by chunk that starts where its observation was: d
        self._counted: dict[int, Counted] = {}  # by chunk, what inference made of it
        self._observed = -1  # the tick that the newest chunk was observed in
        self._since = 0  # the tick from which on none is missing
        self._last: Any = None  # the newest tick that differed from the one before
        self._tick, self._t_ns = -1, 0  # the newest
        self._held_since = 0  # the tick
        self._why = ""  # of the hold, as told last, without figures
        self._missed = {"tick": 0, "chunk": 0}
        self._pid, self._dropped, self._outcomes = 0, 0, NO_OUTCOMES  # of inference
        self._unanswered: dict[Outcome, str] = {}  # as told since the last answer, without figures

    def of(self, ticks: NDArray[Any], missed: int = 0) -> list[Event]:
        """What happened in `ticks`, consecutive tick records, and in inference meanwhile.

        missed: how many tick records were overwritten so far (`TickStatistics.missed`); between two
        calls no others may be left out.
        """
        if len(ticks) and (self._last is None or missed > self._missed["tick"]):
            self._since = int(ticks["tick"][0])
        self._take_chunks()  # after the ticks were read, so that each chunk in use is known
        if len(ticks):
            self._tick, self._t_ns = int(ticks["tick"][-1]), int(ticks["t_wake"][-1])
        events = [*self._of_missed("tick", missed), *self._of_missed("chunk", self._chunks.missed)]
        for tick in ticks[self._changes(ticks)]:
            events += self._of_tick(tick)
            self._last = tick.copy()
        return [*events, *self._of_unused(), *self._of_inference()]

    def _take_chunks(self) -> None:
        for index, chunk in self._chunks.by_index().items():
            if not chunk["cold"]:
                self._planned[index] = int(chunk["d_planned"])
            if chunk["previous_d_counted"] >= 0:
                d = int(chunk["previous_d_counted"])
                self._counted[index - 1] = Counted(self._observed, int(chunk["obs_tick"]), d)
            self._observed = int(chunk["obs_tick"])

    def _of_missed(self, ring: str, missed: int) -> Iterator[Event]:
        """Records that nobody can tell of any more; not those from before our first look."""
        count, self._missed[ring] = missed - self._missed[ring], missed
        if count and self._last is not None:
            words = f"{_counted(count, ring)} overwritten unread: what only they held is not told"
            yield Event(self._t_ns, self._tick, "missed", words)

    def _changes(self, ticks: NDArray[Any]) -> NDArray[np.intp]:
        """Indices of the ticks that differ from the one before in what is watched."""
        if not len(ticks):
            return np.zeros(0, np.intp)
        changed = np.zeros(len(ticks), bool)
        changed[0] = self._last is None or any(ticks[n][0] != self._last[n] for n in self.WATCHED)
        for name in self.WATCHED:
            changed[1:] |= ticks[name][1:] != ticks[name][:-1]
        return np.flatnonzero(changed)

    def _of_tick(self, tick: Any) -> Iterator[Event]:
        last, t_ns, k = self._last, int(tick["t_wake"]), int(tick["tick"])
        if last is not None and tick["episodes"] > last["episodes"]:
            won = "with" if tick["successes"] > last["successes"] else "without"
            ended, successes = int(tick["episodes"]), int(tick["successes"])
            words = f"episode {int(last['episode'])} ended {won} success ({successes} of {ended})"
            yield Event(t_ns, k, "episode", words)
        if last is not None and tick["expired_chunks"] > last["expired_chunks"]:
            count = int(tick["expired_chunks"]) - int(last["expired_chunks"])
            came = "a chunk came after its" if count == 1 else f"{count} chunks came after their"
            yield Event(t_ns, k, "expired_chunk", f"{came} last row was due")
        yield from self._of_delay(tick, t_ns)
        yield from self._of_hold(tick, t_ns, k)

    def _of_delay(self, tick: Any, t_ns: int) -> Iterator[Event]:
        """The first use of a chunk: whether it came later than planned."""
        chunk, used = int(tick["chunk"]), int(tick["chunk_first_used_tick"])
        if used < 0 or chunk not in self._planned:
            return
        planned = self._planned.pop(chunk)
        counted = counted_delay(tick["chunk_first_tick"], used, self._ticks_per_row)
        if counted > planned:
            words = f"chunk {chunk} came late: after {counted} rows, planned were {planned}"
            yield Event(t_ns, used, "late_chunk", words)

    def _of_unused(self) -> Iterator[Event]:
        """Late chunks that were never used, since nothing was to be executed when they came."""
        for chunk, (observed, counted_in, d) in list(self._counted.items()):
            if self._tick < counted_in:
                continue  # the tick that used it may be still to come
            del self._counted[chunk]
            planned = self._planned.get(chunk, d)
            self._planned = {index: d for index, d in self._planned.items() if index > chunk}
            if d > planned and observed >= self._since:  # else a tick that is gone may have used it
                words = f"chunk {chunk} came after {d} rows, planned were {planned}: unused"
                yield Event(self._t_ns, self._tick, "late_chunk", words)

    def _of_hold(self, tick: Any, t_ns: int, k: int) -> Iterator[Event]:
        """Its beginning, another reason, other words than figures for the same one, its end."""
        before = Hold.NONE if self._last is None else int(self._last["hold"])
        hold, why = int(tick["hold"]), text(tick["why"])
        if hold == Hold.NONE:
            if before != Hold.NONE:
                doing = "executes" if tick["phase"] == Phase.RUN else "moves"
                held = _counted(k - self._held_since, "tick")
                yield Event(t_ns, k, "resumed", f"{doing} again, after {held} of hold")
            return
        if before == Hold.NONE:
            self._held_since = k
        without_figures = FIGURES.sub("", why)
        if hold == before and (not why or without_figures == self._why):
            return
        self._why = without_figures
        kind, still = ("hold_goes_on", "still ") if hold == before else ("hold", "")
        reason = named(Hold, hold)
        words = f"{still}hold {reason.lower()}" + (why and f": {why}")
        yield Event(t_ns, k, kind, words, reason)

    def _of_inference(self) -> Iterator[Event]:
        """Chunks that inference refused to publish, and those that nobody gave it. A new process
        counts from 0; statuses may be overwritten unread, the counts stay true."""
        for status in self._statuses.new():
            if status["pid"] != self._pid:
                self._pid, self._dropped, self._outcomes = int(status["pid"]), 0, NO_OUTCOMES
                self._unanswered.clear()
            outcomes = status["outcomes"] - self._outcomes
            refused = int(status["dropped"]) - self._dropped
            self._dropped, self._outcomes = int(status["dropped"]), status["outcomes"].copy()
            why = text(status["detail"]) or "its words were overwritten unread"
            yield from self._of_outcomes(outcomes, status, why)
            if refused > 0:
                words = f"inference refused {_counted(refused, 'chunk')}: {why}"
                t_ns = int(status["heartbeat"])
                yield Event(t_ns, self._tick, "refused_chunk", words, why)

    def _of_outcomes(self, outcomes: NDArray[np.int64], status: Any, why: str) -> Iterator[Event]:
        """Of each kind of missing answer the first, and those in other words than figures."""
        if outcomes[Outcome.OK]:
            self._unanswered.clear()
        without_figures = FIGURES.sub("", why)
        for outcome in UNANSWERED:
            if outcomes[outcome] and self._unanswered.get(outcome) != without_figures:
                self._unanswered[outcome] = without_figures
                words = f"no chunk: {why} ({status['outcomes'][outcome]} so far)"
                t_ns = int(status["heartbeat"])
                yield Event(t_ns, self._tick, "no_answer", words, outcome.name)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")
