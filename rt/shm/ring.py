"""A lock-free ring of structured records in shared memory: one writer, any number of readers.

Guarantees:
- a record that a reader accepts is whole, and is the sample whose index is returned
- nobody waits for anybody: a reader tries three times and gives up; a writer never looks at one
- a writer killed at any instruction leaves every completed sample readable, except the one that it
  was overwriting, `slots` samples old; its successor resumes at `head` with a bumped epoch
- after the constructor no operation allocates memory that grows, locks, logs or opens a file
  (a writer's first `begin()` claims its role: one short flock)
Assumptions:
- one Ring object is used by one thread, and not across a fork
- a slot is filled between `begin()` and `commit()` with ordinary stores or through memcpy (numpy,
  `write()`); foreign code that may use streaming stores fills a private `buffer()`
- a slot's view is not written after `commit()`

The protocol and its steps W1..W7, R1..R6 are explained in docs/protocol.md; the same steps are
checked exhaustively, with the reorderings that ARM permits, in tests/test_ring_model.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import numpy as np

from rt.errors import RingUsageError
from rt.shm import segment
from rt.shm.buffers import Buffers, Record
from rt.shm.fence import fences
from rt.shm.layout import AT_EPOCH, AT_HEAD, AT_PID, LINE

TRIES = 3


class Ring:
    """See the module. Made by `create`, `open_writer` or `attach`, not by the constructor."""

    def __init__(self, mapped: segment.Segment) -> None:
        layout = mapped.layout
        octets = memoryview(mapped.memory)
        starts = [layout.first + slot * layout.stride for slot in range(layout.slots)]
        self._name = mapped.name
        self._session = mapped.session
        self._dtype = layout.dtype
        self._slots = layout.slots
        self._nbytes = layout.size
        self._file = mapped.file
        self._release, self._acquire = fences(self._dtype.itemsize)
        # Every view that an operation needs is made here, once.
        self._words: Any = octets.cast("Q")
        self._seq_at = tuple(start // 8 for start in starts)
        self._payloads = tuple(
            octets[start + LINE : start + LINE + self._dtype.itemsize] for start in starts
        )
        self._records: tuple[Record, ...] = tuple(
            np.ndarray((), self._dtype, payload) for payload in self._payloads
        )
        self._buffers = Buffers(self._name, self._dtype)
        self._views = self._buffers.views
        self._next = -1  # the sample to write; -1: not the writer (yet)
        self._pending: Record | None = None  # between begin and commit: the slot's record
        self.lapped = 0
        """Reads given up because the writer went round the whole ring during each of the tries."""

    @classmethod
    def create(cls, name: str, dtype: np.dtype[Any], slots: int = 8, session: str = "") -> Self:
        """Make a ring of `slots` records of `dtype`. Its creator may write: the first `begin()`
        claims the role.

        Raises SegmentExistsError, ShmFullError, RingUsageError, FenceError.
        """
        return cls(segment.create(name, np.dtype(dtype), slots, session))

    @classmethod
    def open_writer(cls, name: str, dtype: np.dtype[Any] | None = None) -> Self:
        """Become the writer of an existing ring, resuming at `head`.

        Raises WriterAliveError while the recorded writer lives, SegmentMissingError, LayoutError.
        """
        ring = cls(segment.attach(name, dtype, writable=True))
        try:
            ring._claim()
        except BaseException:
            ring.close()
            raise
        return ring

    @classmethod
    def attach(cls, name: str, dtype: np.dtype[Any] | None = None) -> Self:
        """Read an existing ring through a read-only mapping.

        Raises SegmentMissingError, LayoutError (also if `dtype` is given and is not the ring's).
        """
        return cls(segment.attach(name, dtype, writable=False))

    @staticmethod
    def unlink(name: str) -> bool:
        """Remove the name; mappings stay valid. Returns False if there was none."""
        return segment.unlink(name)

    def begin(self) -> Record:
        """The next slot's record, shape (), writable: the same one until `commit()`.

        It holds an old sample: fill every field. Raises WriterAliveError at the first call if
        another writer lives, RingUsageError if this ring is a reader's.
        """
        if self._pending is not None:
            return self._pending
        if self._next < 0:
            self._claim()
        sample = self._next
        slot = sample % self._slots
        self._words[self._seq_at[slot]] = 2 * sample + 1  # SYNC POINT W1: being written
        if self._release is not None:
            self._release()  # SYNC POINT W2: no payload store becomes visible before W1
        self._pending = record = self._records[slot]
        return record  # W3 is the caller's

    def commit(self) -> int:
        """Publish the slot that `begin()` gave. Returns the sample's index: 0, 1, 2, ...

        Raises RingUsageError without a `begin()`.
        """
        if self._pending is None:
            raise RingUsageError(
                f"ring {self._name}: commit: expected a begin() before it, got none."
            )
        self._pending = None
        sample = self._next
        if self._release is not None:
            self._release()  # SYNC POINT W4: the payload is visible before W5
        self._words[self._seq_at[sample % self._slots]] = 2 * sample + 2  # SYNC POINT W5: complete
        if self._release is not None:
            self._release()  # SYNC POINT W6: W5 is visible before W7
        self._words[AT_HEAD] = self._next = sample + 1  # SYNC POINT W7: published
        return sample

    def write(self, record: Record) -> int:
        """Publish a copy of `record`, a `buffer()` of this ring. Returns the sample's index."""
        source = (self._views.get(id(record)) or self._buffers.adopt(record))[0]
        self.begin()
        self._payloads[self._next % self._slots][:] = source  # W3
        return self.commit()

    def buffer(self) -> Record:
        """A new private record of this ring's dtype, shape (), zeroed."""
        return self._buffers.new()

    def read_latest(self, out: Record) -> int | None:
        """Copy the newest sample into `out`, a `buffer()`. Returns its index, or None if nothing
        was published, or if the writer lapped all three tries (then `lapped` counts one).

        `out` is undefined unless an index came back: keep two buffers and swap them.
        """
        target = (self._views.get(id(out)) or self._buffers.adopt(out))[0]
        words, acquire = self._words, self._acquire
        for _ in range(TRIES):
            head: int = words[AT_HEAD]  # SYNC POINT R1
            if head == 0:
                return None
            if acquire is not None:
                acquire()  # SYNC POINT R2: nothing below is read before R1
            slot = (head - 1) % self._slots
            at = self._seq_at[slot]
            if words[at] != 2 * head:  # R3: lapped already; saves a vain copy, no more
                continue
            target[:] = self._payloads[slot]  # R4
            if acquire is not None:
                acquire()  # SYNC POINT R5: R6 is read after the payload
            if words[at] == 2 * head:  # SYNC POINT R6: the slot was whole all along
                return head - 1
        self.lapped += 1
        return None

    def read_window(self, outs: Record | Sequence[Record], k: int) -> int | None:
        """Copy the `k` newest samples, consecutive, oldest first, into `outs[:k]`: one array of
        shape (>= k,) or a sequence of buffers. Returns the newest one's index; None as for
        `read_latest`, or if fewer than `k` exist or fit. `outs` is undefined unless an index came.
        """
        targets = self._window(outs, k)
        words, acquire, slots = self._words, self._acquire, self._slots
        for _ in range(TRIES):
            head: int = words[AT_HEAD]  # SYNC POINT R1
            if head < k or k > slots:
                return None
            if acquire is not None:
                acquire()  # SYNC POINT R2
            oldest = head - k
            if words[self._seq_at[oldest % slots]] != 2 * oldest + 2:  # R3
                continue
            for i in range(k):
                targets[i][:] = self._payloads[(oldest + i) % slots]  # R4
            if acquire is not None:
                acquire()  # SYNC POINT R5
            for sample in range(oldest, head):
                if words[self._seq_at[sample % slots]] != 2 * sample + 2:  # SYNC POINT R6
                    break
            else:
                return head - 1
        self.lapped += 1
        return None

    @property
    def name(self) -> str:
        """The segment's name, with its leading slash."""
        return self._name

    @property
    def dtype(self) -> np.dtype[Any]:
        """The record's type."""
        return self._dtype

    @property
    def slots(self) -> int:
        """How many records the ring holds."""
        return self._slots

    @property
    def nbytes(self) -> int:
        """The segment's size in bytes."""
        return self._nbytes

    @property
    def session(self) -> str:
        """The session that made the ring, or ""."""
        return self._session

    @property
    def head(self) -> int:
        """How many samples have been published: the newest one's index plus one."""
        return int(self._words[AT_HEAD])

    @property
    def writer_pid(self) -> int:
        """The recorded writer's pid, which may be dead; 0 if there is none."""
        return int(self._words[AT_PID])

    @property
    def writer_epoch(self) -> int:
        """How many writers there have been."""
        return int(self._words[AT_EPOCH])

    def close(self) -> None:
        """Leave the ring; a writer gives up its role, and an uncommitted slot is dropped.

        Views that the caller still holds stay valid; the memory goes with the last of them.
        """
        if self._next >= 0:
            self._words[AT_PID] = 0
            self._next = -1
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._words = _Closed(self._name)
        self._pending = None
        self._payloads = self._records = ()
        self._buffers.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _claim(self) -> None:
        words = self._words
        if self._file < 0 and words[AT_HEAD] >= 0:  # the second half: a closed ring says so
            raise RingUsageError(
                f"ring {self._name}: begin: expected a writer, got a reader, whose mapping is "
                f"read-only; use Ring.open_writer."
            )
        segment.claim(self._name, self._file, words)
        self._next = words[AT_HEAD]

    def _window(self, outs: Record | Sequence[Record], k: int) -> Sequence[memoryview]:
        known, adopt = self._views.get, self._buffers.adopt
        if isinstance(outs, np.ndarray):
            targets: Sequence[memoryview] = known(id(outs)) or adopt(outs)
        else:
            targets = [(known(id(out)) or adopt(out))[0] for out in outs[:k]]
        if not 1 <= k <= len(targets):
            raise RingUsageError(
                f"ring {self._name}: read_window: expected 1 <= k <= {len(targets)} (the buffers "
                f"given), got k = {k}."
            )
        return targets


class _Closed:
    """Stands in for the words of a closed ring, so that the hot path need not ask."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, *_: object) -> NoReturn:
        raise RingUsageError(f"ring {self._name}: expected an open ring, got a closed one.")

    __setitem__ = __getitem__
