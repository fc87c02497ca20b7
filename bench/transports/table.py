"""Ways to hand the newest array from one process to another: ours and what people use instead.

Each is used as somebody who knows it would, with its copies in and out: the sender fills `data`
and sends it, the receiver ends with an array of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from transports.by_message import PicklingPipe, Pipe, Queue, ZeroMQ
from transports.in_memory import Iceoryx2, LockedMemory, OurRing
from transports.protocol import Message, Transport

TRANSPORTS: dict[str, Callable[[Message], Transport]] = {
    "rt.shm.Ring": OurRing,
    "iceoryx2, by address": Iceoryx2,
    "iceoryx2, payload()": partial(Iceoryx2, by_address=False),
    "SharedMemory + RLock": LockedMemory,
    "Pipe, bytes": Pipe,
    "Pipe, objects": PicklingPipe,
    "ZeroMQ ipc": ZeroMQ,
    "Queue": Queue,
}


@contextmanager
def all_of(shape: tuple[int, ...], dtype: str, name: str) -> Iterator[dict[str, Transport]]:
    """One of each, for arrays of `shape`."""
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as folder:
        try:
            yield {
                what: make(Message(f"{name}.{i}", folder, shape, dtype))
                for i, (what, make) in enumerate(TRANSPORTS.items())
            }
        finally:
            for left in Path("/dev/shm").glob(f"{name}.*"):  # iceoryx2 leaves one
                left.unlink()
