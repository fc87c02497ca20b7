"""What lies where in a ring's segment, and the check that a segment is laid out so.

All integers are native unsigned 64-bit words (docs/protocol.md has the table):
    line 0    magic, layout version, layout hash, size, slots, bytes of dtype text, -, ready
    line 1    session name
    line 2    writer pid, writer start time, writer epoch
    line 3    head, alone, because every reader polls it
    256       dtype text, padded to a line
    then      per slot: one line whose first word is `seq`, then the payload, padded to a line
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rt.errors import LayoutError, RingUsageError
from rt.shm.fence import Fence, fences

MAGIC = int.from_bytes(b"rt.ring\0", "little")
VERSION = 1
LINE = 64  # bytes of a cache line

# Indices of the header's words.
AT_MAGIC, AT_VERSION, AT_HASH, AT_SIZE, AT_SLOTS, AT_TEXT_BYTES, AT_READY = 0, 1, 2, 3, 4, 5, 7
AT_PID, AT_START, AT_EPOCH = 16, 17, 18
AT_HEAD = 24

SESSION = slice(64, 128)  # bytes
TEXT_OFFSET = 256  # bytes; also the least that a segment can measure
HEADER_MOST = 1 << 20  # bytes, with the text
MOST = 1 << 62  # samples, writers: a sequence word, which tells two states of each, must hold them


def _lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE


@dataclass(frozen=True)
class Layout:
    """Where the slots of a ring lie. Everything follows from the dtype's text and `slots`."""

    text: bytes
    slots: int

    @property
    def first(self) -> int:
        """Byte offset of slot 0's sequence word; a slot's payload starts one line after it."""
        return TEXT_OFFSET + _lines(len(self.text))

    @cached_property
    def stride(self) -> int:
        """Bytes from one slot to the next."""
        return LINE + _lines(self.dtype.itemsize)

    @property
    def size(self) -> int:
        """Bytes of the whole segment."""
        return self.first + self.slots * self.stride

    @property
    def hash(self) -> int:
        """64 bits over the version, the slots and every field's name, type, shape and offset."""
        layout = b"%d %d %s" % (VERSION, self.slots, self.text)
        return int.from_bytes(hashlib.blake2b(layout, digest_size=8).digest(), "little")

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The record's type. The text is a literal, never a pickle."""
        dtype: np.dtype[Any] = np.lib.format.descr_to_dtype(ast.literal_eval(self.text.decode()))
        return dtype


def layout_for(name: str, dtype: np.dtype[Any], slots: int) -> Layout:
    """The layout of a new ring. Raises RingUsageError for a dtype or a number that cannot be."""
    if slots < 2:
        raise RingUsageError(
            f"ring {name}: expected slots >= 2, because the newest sample must outlive the writing "
            f"of the next, got {slots}."
        )
    if dtype.names is None or dtype.itemsize == 0 or dtype.hasobject:
        raise RingUsageError(
            f"ring {name}: expected a structured dtype without Python objects, got {dtype}."
        )
    try:
        layout = Layout(repr(dtype.descr).encode(), slots)
    except ValueError:  # numpy: no descr for overlapping or out-of-order fields
        layout = None
    if layout is None or layout.dtype != dtype:
        raise RingUsageError(
            f"ring {name}: expected a dtype that its own `descr` describes fully, got {dtype}; "
            f"give the fields by rising offset, without overlaps or titles."
        )
    return layout


def _check_record(name: str, layout: Layout) -> None:
    """Whether `layout_for` can have made it; bytes that are taken for Python objects would crash
    whoever reads them."""
    try:
        made = layout_for(name, layout.dtype, layout.slots)
    except Exception as error:  # a text that is none fails in as many ways as there are parsers
        raise mismatch(name, "layout", "that of a ring", f"another ({error})") from None
    if made != layout:
        raise mismatch(name, "dtype text", made.text.decode(), layout.text.decode())


def mismatch(name: str, what: str, expected: object, got: object, mend: str = "") -> LayoutError:
    """The error for one difference between a segment and what it should be."""
    mend = mend or "it was made by another version or program: remove it (rt.inspect --clean)"
    return LayoutError(f"segment {name}: {what}: expected {expected}, got {got}; {mend}.")


def write_header(octets: memoryview, layout: Layout, session: str, release: Fence | None) -> None:
    """Fill a new segment's header, `ready` last. No writer is recorded."""
    octets[SESSION.start : SESSION.start + len(session)] = session.encode()
    octets[TEXT_OFFSET : TEXT_OFFSET + len(layout.text)] = layout.text
    words = octets.cast("Q")
    words[AT_MAGIC] = MAGIC
    words[AT_VERSION] = VERSION
    words[AT_HASH] = layout.hash
    words[AT_SIZE] = layout.size
    words[AT_SLOTS] = layout.slots
    words[AT_TEXT_BYTES] = len(layout.text)
    if release is not None:
        release()
    words[AT_READY] = 1  # SYNC POINT: whoever reads 1 here sees all of the above


def check_header(name: str, octets: memoryview, size: int) -> tuple[Layout, str]:
    """The layout and the session of a segment of `size` bytes, of which `octets` are the first,
    mapped. Raises LayoutError at the first mismatch."""
    words = octets[:TEXT_OFFSET].cast("Q")
    ready = words[AT_READY]  # SYNC POINT: read before everything that it vouches for
    acquire = fences(0).acquire
    if acquire is not None:
        acquire()
    if words[AT_MAGIC] != MAGIC and (ready or words[AT_MAGIC]):
        raise mismatch(name, "magic", f"{MAGIC:#x}", f"{words[AT_MAGIC]:#x}")
    if words[AT_VERSION] != VERSION and ready:
        raise mismatch(name, "layout version", VERSION, words[AT_VERSION])
    if ready != 1:
        raise mismatch(name, "ready", 1, ready, "its creator is still at work or died: try again")
    if words[AT_SIZE] != size:
        raise mismatch(name, "size in bytes", words[AT_SIZE], size)
    text = bytes(octets[TEXT_OFFSET : TEXT_OFFSET + words[AT_TEXT_BYTES]])
    layout = Layout(text, words[AT_SLOTS])
    if words[AT_HASH] != layout.hash:
        raise mismatch(name, "layout hash", f"{layout.hash:#x}", f"{words[AT_HASH]:#x}")
    _check_record(name, layout)
    if layout.size != size:
        raise mismatch(name, "size of its layout in bytes", layout.size, size)
    for what, at in (("head", AT_HEAD), ("writer epoch", AT_EPOCH)):
        if words[at] > MOST:
            raise mismatch(name, what, f"at most {MOST}", words[at])
    return layout, bytes(octets[SESSION]).rstrip(b"\0").decode(errors="replace")
