"""Who takes part in a story of a ring: its writer and its readers, each a process.

Every word of sample n is n. A record is whole when its first word is its index and each word equals
the one after it: one memcmp of the record with itself, one word on, which a torn copy cannot pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from broken import BrokenRing

from rt.child import PR_SET_PDEATHSIG
from rt.shm import Ring
from rt.shm.buffers import Record

RESTS: dict[str, Callable[[random.Random], float]] = {
    "never": lambda dice: 0.0,
    "at random": lambda dice: dice.uniform(0, 0.002) if dice.random() < 0.02 else 0.0,
    "1 kHz": lambda dice: 0.001,
    "20 Hz": lambda dice: 0.05,
}
"""How long a writer rests after a sample, in seconds."""

TALLY = np.dtype(
    [
        ("tries", "u8"),  # reads, whatever came back
        ("reads", "u8"),  # copies that were accepted
        ("new", "u8"),  # of samples that this reader had not seen
        ("laps", "u8"),  # reads given up: three times the writer had gone round the ring
        ("torn", "u8"),  # accepted, and not the sample that they were said to be
        ("back", "u8"),  # indices below the one before
        ("longest_ns", "u8"),
        ("is_fifo", "u8"),
        ("is_over", "u8"),  # written by the story: the reader leaves
    ]
)


class Reader(msgspec.Struct, frozen=True):
    """One reader: on which core, as SCHED_FIFO if that is allowed, `window` samples at a time."""

    core: int
    fifo: bool
    window: int


class Writer(msgspec.Struct, frozen=True):
    """How samples are written: where, with which rests, in place or from a private buffer."""

    core: int  # -1: any
    rest: str
    in_place: bool


def record_of(octets: int) -> np.dtype[Any]:
    """A record of so many bytes, all of them words."""
    return np.dtype([("word", "u8", (octets // 8,))])


def write(name: str, writer: Writer, seed: int, fault: str) -> None:
    """Publish samples until killed."""
    _die_with_the_story()
    if writer.core >= 0:
        os.sched_setaffinity(0, {writer.core})
    ring = _ring(name, fault, writes=True)
    put, rest, dice = _putter(ring, writer.in_place), RESTS[writer.rest], random.Random(seed)
    never = writer.rest == "never"
    n = ring.head
    while True:
        put(n)
        n += 1
        if not never:
            time.sleep(rest(dice))


def _putter(ring: Ring, in_place: bool) -> Callable[[int], object]:
    record = ring.buffer()
    words = record["word"]
    half = len(words) // 2

    def put_in_place(n: int) -> None:
        slot = ring.begin()["word"]
        slot[:half] = n
        slot[half:] = n
        ring.commit()

    def put_whole(n: int) -> None:
        words.fill(n)
        ring.write(record)

    return put_in_place if in_place else put_whole


def read(name: str, reader: Reader, tally: Record, fault: str) -> None:
    """Read until the story is over; `tally`, shape (), is in shared memory."""
    _die_with_the_story()
    os.sched_setaffinity(0, {reader.core})
    if reader.fifo:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
            tally["is_fifo"] = 1
    ring = _ring(name, fault, writes=False)
    octets = ring.dtype.itemsize
    outs = np.zeros(reader.window, ring.dtype)
    checks = [_check(out) for out in outs["word"]]
    one = outs[0:1].reshape(())
    look = (lambda: ring.read_latest(one)) if reader.window == 1 else _windows(ring, outs)
    batch, last = max(4, min(256, 1_000_000 // octets)), -1
    while not tally["is_over"]:
        last = _read_some(look, checks, batch, last, tally)
        tally["laps"] = ring.lapped
        if reader.fifo:
            time.sleep(0.001)  # else it would have its core to itself


def _windows(ring: Ring, outs: Record) -> Callable[[], int | None]:
    k = len(outs)
    return lambda: ring.read_window(outs, k)


def _read_some(
    look: Callable[[], int | None],
    checks: list[Callable[[int], bool]],
    count: int,
    last: int,
    tally: Record,
) -> int:
    """`count` reads, each checked, added to the tally. Returns the newest index seen."""
    reads = new = torn = back = longest = 0
    oldest, clock = len(checks) - 1, time.monotonic_ns
    for _ in range(count):
        before = clock()
        index = look()
        took = clock() - before
        if took > longest:
            longest = took
        if index is None:
            continue
        reads += 1
        if index != last:
            new += index > last
            back += index < last
            last = index
        n = index - oldest
        for is_sample in checks:
            torn += not is_sample(n)
            n += 1
    tally["tries"] += count
    tally["reads"] += reads
    tally["new"] += new
    tally["torn"] += torn
    tally["back"] += back
    tally["longest_ns"] = max(int(tally["longest_ns"]), longest)
    return last


def _check(words: Record) -> Callable[[int], bool]:
    """Whether the words, shape (n,), are sample n's; made once, because it is asked so often."""
    memcmp = ctypes.PyDLL(None).memcmp
    memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    start, then = ctypes.c_void_p(words.ctypes.data), ctypes.c_void_p(words.ctypes.data + 8)
    rest, view = ctypes.c_size_t(words.nbytes - 8), words.data
    return lambda n: view[0] == n and not memcmp(start, then, rest)


def _ring(name: str, fault: str, *, writes: bool) -> Ring:
    """The ring itself, or one that leaves a step out."""
    kind = BrokenRing if fault else Ring
    ring = kind.open_writer(name) if writes else kind.attach(name)
    if isinstance(ring, BrokenRing):
        ring.fault = fault
    return ring


def _die_with_the_story() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
