"""Two processes share the points, one core each."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from rt.compare.points import Point, Result

PROCESSES = 2


def run_all(points: list[Point]) -> Iterator[Result]:
    """The results as they come. Leaving early ends the processes, and their rings with them."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES, _begin) as pool:
        yield from pool.imap_unordered(_run, points)
        pool.close()
        pool.join()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    import torch

    torch.set_num_threads(1)


def _run(point: Point) -> Result:
    from rt.compare.run import run_point  # imports torch, which the parent does without

    signal.signal(signal.SIGTERM, _leave)
    try:
        return run_point(point)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    """By way of every `with`: a process that is merely killed leaves its rings in /dev/shm."""
    sys.exit(0)
