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
        self._kept: list[Record] = []  # so that no id in `views` is used again
        self.views: dict[int, tuple[memoryview, ...]] = {}
        """By a buffer's id, the bytes of each record in it."""

    def new(self) -> Record:
        """A zeroed record, shape ()."""
        out = np.zeros((), self._dtype)
        self.adopt(out)
        return out

    def adopt(self, out: Record) -> tuple[memoryview, ...]:
        """The bytes of each record in `out`. Raises RingUsageError if it cannot be copied to."""
        if not isinstance(out, np.ndarray) or out.dtype != self._dtype:
            got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
            raise self._foreign(f"of dtype {self._dtype}, got {got}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise self._foreign("that is C-contiguous and writable, got one that is not")
        if len(self._kept) >= _REMEMBERED:
            self.forget()
        size = self._dtype.itemsize
        octets = out.reshape(-1).view("u1").data
        views = tuple(octets[i * size : (i + 1) * size] for i in range(out.size))
        self._kept.append(out)
        self.views[id(out)] = views
        return views

    def forget(self) -> None:
        """Let go of every buffer."""
        self.views.clear()
        self._kept.clear()

    def _foreign(self, difference: str) -> RingUsageError:
        return RingUsageError(
            f"ring {self._name}: expected a buffer {difference}; make it with ring.buffer()."
        )
