"""The newest ticks and chunks of a session, kept: for whoever draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.shm import Ring
from rt.statistics import TickStatistics
from rt.tail import Tail

CHUNKS = 64  # kept, at most


class History:
    """Call `update` often enough that neither ring comes round."""

    def __init__(self, ticks: Ring, chunks: Ring, keep: int) -> None:
        """keep: ticks."""
        self.statistics = TickStatistics(ticks)
        self.chunks: dict[int, Any] = {}  # records by ring index, oldest first
        self._chunks = Tail(chunks)
        self._keep = keep
        self._room = np.zeros(2 * keep, ticks.dtype)  # so that it is moved once in `keep` ticks
        self._count = 0

    @property
    def ticks(self) -> NDArray[Any]:
        """The newest `keep` tick records, oldest first. A view, valid until the next update."""
        return self._room[max(0, self._count - self._keep) : self._count]

    def update(self) -> NDArray[Any]:
        """Take in what is new; returns the new tick records."""
        new = self.statistics.update()
        kept = new[-self._keep :]
        if self._count + len(kept) > len(self._room):
            old = self.ticks.copy()
            self._room[: len(old)] = old
            self._count = len(old)
        self._room[self._count : self._count + len(kept)] = kept
        self._count += len(kept)
        self.chunks |= self._chunks.by_index()
        while len(self.chunks) > CHUNKS:
            del self.chunks[next(iter(self.chunks))]
        return new
