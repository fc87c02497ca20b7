"""A ring's shared-memory segment: making it, mapping it, and the record of who may write.

Guarantees:
- a segment is whole before anyone can map it (`ready` is stored last), and its memory exists: a
  full /dev/shm is an error when it is made, never a SIGBUS later
- attaching checks what it maps and never changes the segment's size
- at most one living writer is recorded
Assumptions:
- all processes share one /dev/shm and one pid namespace
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import posix_ipc

from rt.errors import (
    RingUsageError,
    SegmentExistsError,
    SegmentMissingError,
    ShmError,
    ShmFullError,
    WriterAliveError,
)
from rt.shm.fence import fences
from rt.shm.layout import (
    AT_EPOCH,
    AT_PID,
    AT_START,
    HEADER_MOST,
    TEXT_OFFSET,
    Layout,
    check_header,
    layout_for,
    mismatch,
    write_header,
)
from rt.shm.own_file import open_own

_NAME = re.compile(r"/[A-Za-z0-9._-]{1,200}")
_SESSION = re.compile(r"[A-Za-z0-9_-]{0,64}")
_FULL = (errno.ENOSPC, errno.EFBIG, errno.ENOMEM)


@dataclass(frozen=True)
class Segment:
    """A mapped segment. A reader's is mapped read-only and has no `file` (-1)."""

    name: str
    layout: Layout
    session: str
    memory: mmap.mmap
    file: int


def full_name(name: str) -> str:
    """`name` with its leading slash. Raises RingUsageError if it cannot name a segment."""
    name = "/" + name.removeprefix("/")
    if not _NAME.fullmatch(name):
        raise RingUsageError(
            f"a ring's name: expected 1 to 200 of A-Z a-z 0-9 . _ -, got {name[1:]!r}."
        )
    return name


def create(name: str, dtype: np.dtype[Any], slots: int, session: str) -> Segment:
    """Make a segment, with all its memory, mode 0600, no writer recorded.

    Raises SegmentExistsError, ShmFullError (nothing is left behind), RingUsageError, FenceError.
    """
    name = full_name(name)
    if not _SESSION.fullmatch(session):
        raise RingUsageError(
            f"ring {name}: session: expected up to 64 of A-Z a-z 0-9 _ -, got {session!r}."
        )
    layout = layout_for(name, dtype, slots)
    release = fences(0).release  # refuses a CPU that it does not know before anything is made
    file = _allocate(name, layout.size)
    try:
        memory = mmap.mmap(file, layout.size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        write_header(memoryview(memory), layout, session, release)
    except BaseException:  # say, no address space is left: leave nothing that looks like a ring
        os.close(file)
        posix_ipc.unlink_shared_memory(name)
        raise
    return Segment(name, layout, session, memory, file)


def _allocate(name: str, size: int) -> int:
    """A new file of `size` bytes whose memory is there. Returns its descriptor."""
    try:
        file: int = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600).fd
    except posix_ipc.ExistentialError:
        raise SegmentExistsError(
            f"segment {name}: expected a free name, got one that is taken; if its session is dead, "
            f"remove it: python -m rt.inspect --clean"
        ) from None
    disk = os.fstatvfs(file)
    available = disk.f_bavail * disk.f_frsize
    try:
        if size > available:  # told at once, rather than by filling the memory to find out
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        os.close(file)
        posix_ipc.unlink_shared_memory(name)
        if error.errno not in _FULL:
            raise
        raise ShmFullError(
            f"segment {name}: expected {size} bytes of shared memory, got {available} available in "
            f"/dev/shm ({error.strerror}); free some, or: mount -o remount,size=<bytes> /dev/shm"
        ) from None
    return file


def attach(name: str, dtype: np.dtype[Any] | None, *, writable: bool) -> Segment:
    """Map an existing segment after checking that it is what it says (and of `dtype`, if given).

    Raises SegmentMissingError, LayoutError; ShmError if it is another user's, or no plain file.
    """
    name = full_name(name)
    try:
        access = os.O_RDWR if writable else os.O_RDONLY
        file = open_own(Path(f"/dev/shm{name}"), access)
    except FileNotFoundError:
        raise SegmentMissingError(
            f"segment {name}: expected it in /dev/shm, got nothing; start its session first."
        ) from None
    except PermissionError:
        raise _anothers(name) from None
    except OSError as error:
        raise ShmError(f"segment {name}: expected shared memory, got: {error.strerror}.") from None
    try:
        size = os.fstat(file).st_size
        if size < TEXT_OFFSET:
            raise mismatch(name, "size in bytes", f"at least {TEXT_OFFSET}", size)
        # No more than the header, until it has vouched for the rest: populating fills holes.
        header = mmap.mmap(file, min(size, HEADER_MOST), prot=mmap.PROT_READ)
        layout, session = check_header(name, memoryview(header), size)
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        memory = mmap.mmap(file, size, flags=flags, prot=protection)
        if dtype is not None and dtype != layout.dtype:
            mend = "both sides must use the same configuration"
            raise mismatch(name, "dtype", dtype, layout.dtype, mend)
    except BaseException:
        os.close(file)
        raise
    if not writable:
        os.close(file)  # the mapping keeps the memory
        file = -1
    return Segment(name, layout, session, memory, file)


def unlink(name: str) -> bool:
    """Remove the name; whoever has mapped the segment keeps it. False if there was none."""
    try:
        posix_ipc.unlink_shared_memory(full_name(name))
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.PermissionsError:
        raise _anothers(name) from None
    return True


def _anothers(name: str) -> ShmError:
    return ShmError(
        f"segment {name}: expected one of user {os.geteuid()}, got another user's, which only they "
        f"may open or remove; run as that user."
    )


def claim(name: str, file: int, words: memoryview) -> None:
    """Record this process as the writer and bump the epoch.

    Raises WriterAliveError while the recorded writer lives, even if it is this very process.
    """
    try:
        # Never a blocking lock: whoever was stopped in here would stop us too.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WriterAliveError(
            f"ring {name}: expected a free writer's role, got one being claimed now; try again."
        ) from None
    try:
        pid = words[AT_PID]
        started = start_time(pid) if pid else None
        if started is not None and started == words[AT_START]:
            raise WriterAliveError(
                f"ring {name}: expected no living writer, got pid {pid}; a ring has one writer: "
                f"end that one first."
            )
        words[AT_PID] = 0  # so that a claimer killed in here leaves no half-true record
        words[AT_START] = start_time(os.getpid()) or 0
        words[AT_EPOCH] += 1
        words[AT_PID] = os.getpid()
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def start_time(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot (field 22 of its stat); None if it is dead."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = line[line.rindex(b")") + 2 :].split()  # the command before it may hold anything
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
