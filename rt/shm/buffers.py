"""The private arrays that a ring copies into and from, each with its byte views made once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.errors import RingUsageError

Record = NDArray[Any]
"""A structured array; shape () is one record."""

_REMEMBERED = 64  # buffers; a caller that keeps making new ones must not make us keep them


class Buffers:
    """The byte views of the buffers in use: a copy through one is a bare memcpy."""

    def __init__(self, name: str, dtype: np.dtype[Any]) -> None:
        self._name = name
        self._dtype = dtype
        # By identity. Holding the array itself keeps its id from being used again.
        self._known: dict[int, tuple[Record, tuple[memoryview, ...]]] = {}

    def new(self) -> Record:
        """A zeroed record, shape ()."""
        out = np.zeros((), self._dtype)
        self.views(out)
        return out

    def views(self, out: Record) -> tuple[memoryview, ...]:
        """The bytes of each record in `out`. Raises RingUsageError if it cannot be copied to."""
        known = self._known.get(id(out))
        return known[1] if known is not None else self._adopt(out)

    def forget(self) -> None:
        """Let go of every buffer."""
        self._known.clear()

    def _adopt(self, out: Record) -> tuple[memoryview, ...]:
        if not isinstance(out, np.ndarray) or out.dtype != self._dtype:
            got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise self._foreign(f"of dtype {self._dtype}, got {got}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise self._foreign("that is C-contiguous and writable, got one that is not")
        size = self._dtype.itemsize
        octets = out.reshape(-1).view("u1").data
        views = tuple(octets[i * size : (i + 1) * size] for i in range(out.size))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[id(out)] = (out, views)
        return views

    def _foreign(self, difference: str) -> RingUsageError:
        return RingUsageError(
            f"ring {self._name}: expected a buffer {difference}; make it with ring.buffer()."
        )
