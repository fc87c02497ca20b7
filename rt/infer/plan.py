"""What the next inference is to do, and what it finds left over."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rt.arrays import Chunk
from rt.clock import Ticks

Record = Any  # a 0-d structured array of `records.tick_dtype`, or of `records.chunk_dtype`


class Plan(NamedTuple):
    """What the next inference is to do. As it stands, cold."""

    obs_tick: int
    episode: int
    cold: bool = True  # nothing is being executed: no leftover, and the chunk starts once ready
    s: int = 0
    d: int = 0
    previous_chunk: int = -1  # ring index of the chunk that the leftover comes from; -1: none
    previous_obs_tick: int = -1  # its observation's tick
    leftover: Chunk | None = None  # (H, A): row i meets new row i; padded by its last row
    previous_d_counted: int = -1  # of the chunk published before; -1: not counted

    def first_tick(self, ticks: Ticks, seen_ns: int) -> int:
        """The tick of the chunk's row 0, if control can have seen the chunk by `seen_ns`."""
        return ticks.next_after(seen_ns) if self.cold else self.obs_tick

    def upcoming(self, count: int) -> Chunk | None:
        """The next `count` rows of the chunk in use, (count, A); None if fewer are left."""
        if self.leftover is None or len(self.leftover) - self.s < count:
            return None
        return self.leftover[:count]

    def write_to(self, chunk: Record) -> None:
        """Fill in what a chunk record tells of its plan."""
        chunk["obs_tick"], chunk["episode"], chunk["cold"] = self.obs_tick, self.episode, self.cold
        chunk["d_planned"], chunk["s"] = self.d, self.s
        chunk["previous_chunk"] = self.previous_chunk
        chunk["previous_d_counted"] = self.previous_d_counted


def leftover(actions: Chunk, executed: float) -> Chunk:
    """`actions` (H, A) from row `executed` on, (H, A): row i is what control would execute i rows
    from now. Between rows it is interpolated, as control does; past the end its last row is held.
    """
    horizon = len(actions)
    rows = np.minimum(np.maximum(executed, 0.0) + np.arange(horizon), horizon - 1)
    low = rows.astype(np.intp)
    high = np.minimum(low + 1, horizon - 1)
    share = (rows - low).astype(np.float32)[:, None]
    shifted: Chunk = actions[low] + share * (actions[high] - actions[low])
    return shifted
