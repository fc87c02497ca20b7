"""The memory fences that the ring's protocol needs on this CPU, and no others.

x86-64 keeps ordinary stores in order and ordinary loads in order (TSO; Intel SDM vol. 3, 8.2.2),
which is all that the protocol asks: no fence, except around a large payload. glibc's memcpy may
store one with streaming (non-temporal) instructions, which TSO does not order; it ends with an
`sfence` but has none at its start, so the payload could become visible before W1. Any locked
instruction is a full fence, and acquiring a lock is one.

aarch64 orders nothing by itself: there the fences are C11's, from libatomic.

On any other CPU, or without libatomic on aarch64, importing this module is fine and making a ring
is a FenceError: running on luck would look like running.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable
from typing import NamedTuple

from rt.errors import FenceError

Fence = Callable[[], None]

STREAMING_BYTES = 0x4040
"""glibc's lower bound of `glibc.cpu.x86_non_temporal_threshold`: below it, no streaming store."""

_ACQUIRE, _RELEASE = 2, 3  # C11 memory_order


class Fences(NamedTuple):
    """What to call at W2, W4, W6 (`release`) and at R2, R5 (`acquire`). None: nothing to do."""

    release: Fence | None
    acquire: Fence | None


def fences(payload_bytes: int, machine: str | None = None) -> Fences:
    """The fences for slots of `payload_bytes`, on `machine` (default: this one).

    Raises FenceError if we know none that is right.
    """
    machine = machine or platform.machine()
    if machine in ("x86_64", "AMD64"):
        return Fences(_locked_instruction() if payload_bytes >= STREAMING_BYTES else None, None)
    if machine in ("aarch64", "arm64"):
        return Fences(_libatomic(_RELEASE), _libatomic(_ACQUIRE))
    raise FenceError(
        f"no memory fence is known to be right on this CPU: expected x86_64 or aarch64, got "
        f"{machine!r}; run on one of those, or teach rt/shm/fence.py this one."
    )


def _locked_instruction() -> Fence:
    lock = threading.Lock()
    acquire, release = lock.acquire, lock.release

    def fence() -> None:
        acquire(False)  # an uncontended compare-and-swap, which x86 executes locked
        release()

    return fence


def _libatomic(order: int) -> Fence:
    try:
        # PyDLL keeps the GIL: releasing it would cost more than the fence.
        thread_fence = ctypes.PyDLL("libatomic.so.1").atomic_thread_fence
    except (OSError, AttributeError) as error:
        raise FenceError(
            f"this CPU needs libatomic's atomic_thread_fence and it cannot be loaded ({error}); "
            f"install it: apt-get install libatomic1"
        ) from None
    thread_fence.argtypes = [ctypes.c_int]
    thread_fence.restype = None
    c_order = ctypes.c_int(order)

    def fence() -> None:
        thread_fence(c_order)

    return fence
