"""Which chunk, which row: publication is the swap.

Row i of a chunk is meant for tick first_tick + i * ticks_per_row, so control needs no handshake:
it looks at the newest chunk and computes its row from the tick.

Guarantees:
  - A chunk of another episode, or observed before `valid_from`, is never executed.
  - A chunk that is not yet due waits; the one before it goes on meanwhile.
  - A row that has passed is never executed late. Between two rows a tick gets the point on the
    straight line; the last row lasts its whole length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rt.control.limits import is_finite
from rt.records import Hold
from rt.shm import Ring

# Chunks in a row that arrived after their last row was due, before we call it starvation.
STARVED_AFTER = 3


class Held:
    """A private copy of one chunk."""

    def __init__(self, ring: Ring) -> None:
        self.record = ring.buffer()
        self.actions: NDArray[np.float32] = self.record["actions"]
        self.index = -1
        self.first_tick = 0
        self.first_used_tick = -1


class Swap:
    """The chunk in use, and the row of it that belongs to a tick."""

    def __init__(self, chunks: Ring, ticks_per_row: int) -> None:
        self.expired_chunks = 0  # counter, since the start
        self.row = -1.0  # of the last `target`
        self._ring = chunks
        self._ticks_per_row = ticks_per_row
        self._horizon: int = chunks.dtype["actions"].shape[0]
        self._seen = 0  # head at the last look
        self._active = Held(chunks)
        self._pending = Held(chunks)
        self._spare = Held(chunks)
        self._expired_in_a_row = 0
        self._step = np.empty(chunks.dtype["actions"].shape[1])

    @property
    def index(self) -> int:
        """Ring index of the chunk in use; -1: none."""
        return self._active.index

    @property
    def first_tick(self) -> int:
        return self._active.first_tick

    @property
    def first_used_tick(self) -> int:
        return self._active.first_used_tick

    def forget(self) -> None:
        """Drop every chunk held: what follows starts cold."""
        self._active.index = self._pending.index = -1
        self._active.first_used_tick = -1
        self._expired_in_a_row = 0

    def take_newest(self, k: int, episode: int, valid_from: int) -> None:
        """Look for a newer chunk at tick `k`, and make it the one in use when it is due."""
        self._begin_pending(k)  # first: a newer one that is not yet due must not displace it
        if self._ring.head != self._seen:  # else: nothing new, no copy
            self._receive(k, episode, valid_from)
            self._begin_pending(k)

    def _begin_pending(self, k: int) -> None:
        if self._pending.index >= 0 and self._pending.first_tick <= k:
            self._active, self._pending = self._pending, self._active
            self._pending.index = -1

    def _receive(self, k: int, episode: int, valid_from: int) -> None:
        spare = self._spare
        index = self._ring.read_latest(spare.record)
        if index is None:
            return  # lapped: the next tick looks again, the active chunk stays
        self._seen = index + 1
        record = spare.record
        if int(record["episode"]) != episode or int(record["obs_tick"]) < valid_from:
            return
        spare.index = index
        spare.first_tick = int(record["first_tick"])
        spare.first_used_tick = -1
        if (k - spare.first_tick) // self._ticks_per_row >= self._horizon:
            self.expired_chunks += 1
            self._expired_in_a_row += 1
            return
        self._expired_in_a_row = 0
        self._spare, self._pending = self._pending, spare

    def target(self, k: int, out: NDArray[np.float64]) -> Hold:
        """Write the action (A,) rad of tick `k` to `out`. Anything but NONE: `out` is undefined."""
        active = self._active
        self.row = -1.0
        if active.index < 0:
            if self._pending.index >= 0:
                return Hold.NOT_DUE
            return self._starved_or(Hold.NO_CHUNK)
        i, rest = divmod(k - active.first_tick, self._ticks_per_row)
        if i >= self._horizon:
            return self._starved_or(Hold.EXPIRED)
        out[:] = active.actions[i]
        if rest and i + 1 < self._horizon and is_finite(out):  # inf - inf would warn
            np.subtract(active.actions[i + 1], out, out=self._step)
            self._step *= rest / self._ticks_per_row
            out += self._step
        if not is_finite(out):
            return Hold.NOT_FINITE
        self.row = i + rest / self._ticks_per_row
        return Hold.NONE

    def _starved_or(self, hold: Hold) -> Hold:
        return Hold.STARVED if self._expired_in_a_row >= STARVED_AFTER else hold

    def used(self, k: int) -> None:
        """The row that `target` gave was really executed in tick `k`."""
        if self._active.first_used_tick < 0:
            self._active.first_used_tick = k
