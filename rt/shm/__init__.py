"""Lock-free rings in POSIX shared memory: one writer, any number of readers (docs/protocol.md)."""

from rt.shm.ring import Ring

__all__ = ["Ring"]
