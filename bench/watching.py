"""A whole session under observation: every tick, every chunk, and when each frame was there.

The thread that looks for frames is this process's, beside the session: no process of the session
knows of it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from launched import Launched
from numpy.typing import NDArray
from playing import Fake, driving

from rt import clock
from rt.follow import Followed
from rt.session import Session

LOOK_S = 0.0005  # a frame is seen so much too late, at most, but for what the machine adds
# Inference begins anew soon after each chunk: many swaps in little time.
OFTEN = ("--set", "params.min_num_actions_executed=2")


class Seen(NamedTuple):
    """Of one run."""

    ticks: NDArray[Any]  # (N,) tick records, oldest first
    chunks: dict[int, NDArray[Any]]  # by ring index
    frames: dict[str, NDArray[np.int64]]  # by camera, (F, 2) ns: captured, and seen in its ring
    missed: int  # tick records that were overwritten before they were read


class Frames:
    """Looks into the cameras' rings, as often as it can, while used as a context manager."""

    def __init__(self, session: Session) -> None:
        names = [ring for ring in session.rings() if ring.startswith("frame.")]
        self._rings = {name.removeprefix("frame."): session.reader(name) for name in names}
        self.seen: dict[str, list[tuple[int, int]]] = {name: [] for name in self._rings}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        heads = dict.fromkeys(self._rings, 0)
        records = {name: ring.buffer() for name, ring in self._rings.items()}
        while not self._over.wait(LOOK_S):
            for name, ring in self._rings.items():
                now, head = clock.now_ns(), ring.head
                if head != heads[name] and ring.read_latest(records[name]) is not None:
                    heads[name] = head
                    self.seen[name].append((int(records[name]["t_capture"]), now))

    def __enter__(self) -> Frames:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for ring in self._rings.values():
            ring.close()


@functools.cache
def watch(seconds: float, *, over_dds: bool = False) -> Seen:
    """Drive the simulated IGRIS_B, or the fake one over DDS with its cameras' processes, with the
    demonstration policy at 20 Hz. What was watched once is not driven again."""
    with _driven(over_dds) as run:
        run.when_chunks(1)
        session = Session(run.session)
        followed = Followed(session)
        with Frames(session) as frames:
            ticks = followed.follow(seconds)
        assert run.stop() == 0, run.output
    seen = {name: np.array(pairs, np.int64) for name, pairs in frames.seen.items()}
    return Seen(ticks, followed.published, seen, followed.statistics.missed)


@contextmanager
def _driven(over_dds: bool) -> Iterator[Launched]:
    if not over_dds:
        with Launched("bench", *OFTEN) as run:
            yield run
        return
    with Fake() as fake, driving("bench", fake, *OFTEN) as run:
        yield run
