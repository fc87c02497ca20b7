"""Processes that the ring's tests start: `python tests/ring_peer.py <what> <ring> ...`.

Each says on stdout when it has done what it was started for, and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rt.shm import Ring

WORDS = 1024
SAMPLE = np.dtype([("word", "u8", (WORDS,))])
"""Every word of sample n is n, so that a torn one shows."""


@contextmanager
def peer(what: str, name: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A running peer, killed at the end; its stdout is a pipe."""
    command = [sys.executable, __file__, what, name, *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str]) -> str:
    """The next line that a peer says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def say(what: object) -> None:
    """Tell the test."""
    print(what, flush=True)


def write_forever(name: str) -> None:
    """Publish n = 0, 1, 2, ... as fast as it goes."""
    ring = Ring.open_writer(name)
    say("writing")
    record = ring.buffer()
    words, n = record["word"], ring.head
    while True:
        words.fill(n)
        n = ring.write(record) + 1


def write_and_die_before(name: str, step: str) -> None:
    """Publish until sample 10, in which SIGKILL comes just before `step`."""
    ring = Ring.open_writer(name)
    record = ring.buffer()
    for n in range(10):
        record["word"] = n
        ring.write(record)
    words: Any = ring._words

    class Deadly:
        """Counts the stores of one sample: W1, W5, W7."""

        stores = iter(("W1", "W5", "W7"))

        def __getitem__(self, at: int) -> int:
            return int(words[at])

        def __setitem__(self, at: int, value: int) -> None:
            if next(self.stores) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            words[at] = value

    any_ring: Any = ring
    any_ring._words = Deadly()
    slot = ring.begin()
    slot["word"][: WORDS // 2] = 10
    if step == "W3":
        os.kill(os.getpid(), signal.SIGKILL)
    slot["word"] = 10
    ring.commit()


def stop_in_mid_write(name: str, core: str) -> None:
    """On `core`: publish once, fill half of the next slot and stop for good."""
    os.sched_setaffinity(0, {int(core)})
    ring = Ring.open_writer(name)
    ring.write(ring.buffer())
    ring.begin()["word"][: WORDS // 2] = 1
    os.kill(os.getpid(), signal.SIGSTOP)


def read_as_fifo(name: str, core: str) -> None:
    """On `core`, as SCHED_FIFO: say what read_latest returns; "refused" if FIFO was."""
    ring = Ring.attach(name)
    out = ring.buffer()
    os.sched_setaffinity(0, {int(core)})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except PermissionError:
        say("refused")
        return
    say(ring.read_latest(out))


def attach_and_leave(name: str) -> None:
    """Attach and end."""
    say(Ring.attach(name).head)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
