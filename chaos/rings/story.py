"""A story of a ring: one writer after the other, readers on both cores, and what befalls them.

`python chaos/rings/story.py <stories as JSON>` prints what was found, as JSON. It is a process of
its own, with one thread, so that it may fork.

Guarantees:
- the writer is stopped and killed where it happens to be, mostly in mid-write; while it is stopped
  each reader must go on, else it counts as blocked
- whatever happens, no process and no segment is left: the children die with the story
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from actors import TALLY, Reader, Writer, read, record_of, write
from shm_names import fresh_name

from rt.shm import Ring

_FORK = multiprocessing.get_context("fork")
STOPS = 20  # until one happens to come in mid-write


class Story(msgspec.Struct, frozen=True):
    """What happens. Deeds, at random moments: the writer is stopped and goes on, or is killed and
    replaced."""

    octets: int  # of a record
    slots: int
    writer: Writer
    readers: tuple[Reader, ...]
    reads: int  # by all readers, after which it ends; sooner once anything was found
    deeds: int
    seed: int
    fault: str = ""  # of BrokenRing; "": the ring itself
    patience_s: float = 20.0  # without a read: blocked


class Found(msgspec.Struct):
    """What was found. The first five must be 0 or, if a step is left out, tell."""

    torn: int = 0
    back: int = 0
    blocked: int = 0  # readers that did not go on
    unwhole: int = 0  # complete slots that were not whole while the writer was stopped or dead
    ahead: int = 0  # times that `head` was ahead of its slot then
    tries: int = 0
    reads: int = 0
    new: int = 0
    laps: int = 0
    stops: int = 0
    stops_in_mid_write: int = 0
    kills: int = 0
    fifo_readers: int = 0
    longest_ns: int = 0  # read of an ordinary reader, preemption included
    longest_fifo_ns: int = 0

    @property
    def is_anything_wrong(self) -> bool:
        return bool(self.torn or self.back or self.blocked or self.unwhole or self.ahead)


class Stage:
    """A story under way."""

    def __init__(self, story: Story, ring: Ring) -> None:
        self.story, self.ring, self.found = story, ring, Found()
        self.dice = random.Random(story.seed)
        shared = mmap.mmap(-1, TALLY.itemsize * len(story.readers))
        self.tallies = np.frombuffer(shared, TALLY)
        self.writer = self._start_writer()
        self.readers = [
            self._start(read, reader, tally.reshape(()), story.fault)
            for reader, tally in zip(story.readers, self.tallies.reshape(-1, 1), strict=True)
        ]

    def play(self) -> Found:
        """Until the reads are done, or something is found."""
        story = self.story
        longest = max(reader.window for reader in story.readers)
        self._until(lambda: self.ring.head >= longest)  # before, there is no such window
        moments = sorted(self.dice.randrange(story.reads) for _ in range(story.deeds))
        for moment in [*moments, story.reads]:
            self._await_reads(moment)
            if self._sum().is_anything_wrong:
                break
            if moment < story.reads:
                self.dice.choice((self._stop_the_writer, self._kill_the_writer))()
        self.tallies["is_over"] = 1
        for process in self.readers:
            process.join(story.patience_s)
            if process.exitcode is None:
                self.found.blocked += 1
                process.kill()
            assert not process.exitcode, "a reader failed"
        assert self.writer.is_alive(), "the writer failed"
        self.writer.kill()
        self.writer.join()
        return self._sum()

    def _stop_the_writer(self) -> None:
        for _ in range(STOPS):
            self._signal_and_wait(signal.SIGSTOP)
            if self._is_in_mid_write():
                self.found.stops_in_mid_write += 1
                break
            os.kill(self.writer.pid, signal.SIGCONT)
            time.sleep(self.dice.uniform(0, 0.001))
        else:
            self._signal_and_wait(signal.SIGSTOP)
        self.found.stops += 1
        self._look_at_the_slots()
        before = self.tallies["reads"].copy()
        self._until(lambda: bool((self.tallies["reads"] > before).all()))
        os.kill(self.writer.pid, signal.SIGCONT)

    def _kill_the_writer(self) -> None:
        self.writer.kill()
        self.writer.join()
        self.found.kills += 1
        self._look_at_the_slots()
        head = self.ring.head
        self.writer = self._start_writer()
        self._until(lambda: self.ring.head > head)

    def _await_reads(self, moment: int) -> None:
        """Until the readers have read so much; each time that none of them did, patience ends."""
        while (reads := int(self.tallies["reads"].sum())) < moment:
            if not self._until(lambda: int(self.tallies["reads"].sum()) > reads):
                return
            if self._sum().is_anything_wrong:
                return
            time.sleep(0.005)

    def _until(self, true: Callable[[], bool]) -> bool:
        """Whether it became true; else somebody was blocked."""
        deadline = time.monotonic() + self.story.patience_s
        while not true():
            if time.monotonic() > deadline:
                self.found.blocked += 1
                return False
            time.sleep(0.001)
        return True

    def _signal_and_wait(self, number: signal.Signals) -> None:
        os.kill(self.writer.pid, number)
        os.waitid(os.P_PID, self.writer.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _is_in_mid_write(self) -> bool:
        return any(self.ring._words[at] % 2 for at in self.ring._seq_at)

    def _look_at_the_slots(self) -> None:
        """With the writer stopped or dead, a slot that says that it is complete is whole, and that
        of the newest sample says so."""
        for at, record in zip(self.ring._seq_at, self.ring._records, strict=True):
            seq = self.ring._words[at]
            if seq and seq % 2 == 0:
                self.found.unwhole += not (record["word"] == seq // 2 - 1).all()
        if head := self.ring.head:
            newest = self.ring._seq_at[(head - 1) % self.story.slots]
            self.found.ahead += self.ring._words[newest] != 2 * head

    def _sum(self) -> Found:
        """What the readers noted, added to what was found from here."""
        found, fifo = self.found, self.tallies["is_fifo"] == 1
        for name in ("tries", "reads", "new", "laps", "torn", "back"):
            setattr(found, name, int(self.tallies[name].sum()))
        found.fifo_readers = int(fifo.sum())
        found.longest_ns = int(self.tallies["longest_ns"][~fifo].max(initial=0))
        found.longest_fifo_ns = int(self.tallies["longest_ns"][fifo].max(initial=0))
        return found

    def _start_writer(self) -> Any:
        story = self.story
        return self._start(write, story.writer, self.dice.randrange(1 << 30), story.fault)

    def _start(self, run: Callable[..., None], *args: object) -> Any:
        process = _FORK.Process(target=run, args=(self.ring.name, *args), daemon=True)
        process.start()
        return process


def play(story: Story) -> Found:
    """The whole of it, in a ring of its own."""
    name = fresh_name()
    with Ring.create(name, record_of(story.octets), slots=story.slots) as ring:
        try:
            return Stage(story, ring).play()
        finally:
            Ring.unlink(name)


if __name__ == "__main__":
    told = [play(story) for story in msgspec.json.decode(sys.argv[1], type=list[Story])]
    print(msgspec.json.encode(told).decode())
