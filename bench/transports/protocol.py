"""A way to hand an array from one process to another, as the benchmarks see it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SPAWN = multiprocessing.get_context("spawn")

Array = NDArray[Any]


@dataclass(frozen=True)
class Message:
    """One array of `shape` and `dtype`; `name` is of the run alone, `folder` for its files."""

    name: str
    folder: str
    shape: tuple[int, ...]
    dtype: str

    def array(self) -> Array:
        """A new one, zeroed."""
        return np.zeros(self.shape, self.dtype)


Sender = tuple[Array, Callable[[], object]]  # what is sent, to be filled; send it
Receiver = Callable[[], Array | None]  # the newest, the receiver's own; None: nothing new yet


class Transport(Protocol):
    """Made with a Message by the sending process; it goes to the receiving one as an argument."""

    def sending(self) -> AbstractContextManager[Sender]:
        """Open the sender's end; its names are removed at the end."""

    def receiving(self) -> AbstractContextManager[Receiver]:
        """Open the receiver's end. Its call may block, or be asked again and again."""


def octets(data: Array) -> memoryview:
    """The array's bytes, in place."""
    return data.reshape(-1).view(np.uint8).data
