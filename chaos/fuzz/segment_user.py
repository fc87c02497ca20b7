"""Attaches to a ring and uses all of it, as a process that may die of what it finds.

segment_user.py NAME: for each line `fresh` or `attached` on stdin one line on stdout: what came of
reading and writing through an attachment made now, or of reading through one made at the start.
"""

from __future__ import annotations

import resource
import sys

from rt.errors import RtError
from rt.shm import Ring

MEMORY = 2 << 30  # bytes of address space: no corruption may ask for more


def read(ring: Ring) -> None:
    """Everything that a reader can ask for."""
    out = ring.buffer()
    index = ring.read_latest(out)
    assert index is None or 0 <= index < ring.head or ring.head == 0, index
    for k in range(1, min(ring.slots, 16) + 1):
        ring.read_window([ring.buffer() for _ in range(k)], k)
    assert ring.session.isprintable() or ring.session
    assert ring.nbytes > 0
    assert ring.writer_pid >= 0
    assert ring.writer_epoch >= 0


def fresh(name: str) -> str:
    """Attach, read; become the writer, write three."""
    try:
        with Ring.attach(name) as reader:
            read(reader)
            with Ring.open_writer(name) as writer:
                record = writer.buffer()
                for _ in range(3):
                    index = writer.write(record)
                assert reader.read_latest(record) == index
    except RtError as error:
        return f"refused as {type(error).__name__}" if str(error).isprintable() else repr(error)
    return "used"


def main() -> None:
    name = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    attached = Ring.attach(name)
    for line in sys.stdin:
        if line.strip() == "fresh":
            said = fresh(name)
        else:
            read(attached)
            said = "read"
        print(said, flush=True)


if __name__ == "__main__":
    main()
