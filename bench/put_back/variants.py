"""What control leaves out, put back into its loop one at a time, as a careful person would have it.

Each is a context manager around the running loop; it may hook into it (`Hooks`). Everything else
stays as it is: SCHED_FIFO, the core, locked pages, no collector, absolute sleeps.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import pty
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from put_back.hooks import Hooks, Variant
from put_back.neighbours import decoding_thread, python_thread, shared_lock
from rt import clock
from rt.control.ticker import Tick


@contextmanager
def as_it_is(hooks: Hooks) -> Iterator[None]:
    """The loop as control runs it."""
    yield


@contextmanager
def messages(hooks: Hooks) -> Iterator[None]:
    """Four state messages decoded in each tick, and kept, as for a recording of the episode."""
    message = {
        "header": {"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "base"},
        "name": [f"joint_{i}" for i in range(6)],
        **{field: [0.1 * i for i in range(6)] for field in ("position", "velocity", "effort")},
    }
    encoded = msgspec.json.encode([message] * 4)
    recording: list[object] = []
    hooks.after = lambda: recording.append(msgspec.json.decode(encoded))
    yield


@contextmanager
def collector(hooks: Hooks) -> Iterator[None]:
    """The same messages, with the garbage collector on, as Python has it."""
    with messages(hooks):
        gc.unfreeze()
        gc.enable()
        try:
            yield
        finally:
            gc.disable()


@contextmanager
def log_file(hooks: Hooks) -> Iterator[None]:
    """One line a tick into a file."""
    with tempfile.NamedTemporaryFile(suffix=".log") as file:
        yield from _logging(hooks, logging.FileHandler(file.name))


@contextmanager
def log_terminal(hooks: Hooks) -> Iterator[None]:
    """One line a tick to a terminal, which another process shows."""
    near, far = pty.openpty()
    shown = subprocess.Popen(
        ["cat"],
        stdin=near,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, hooks.others),
    )
    try:
        with os.fdopen(far, "w") as terminal:
            yield from _logging(hooks, logging.StreamHandler(terminal))
    finally:
        shown.kill()
        shown.wait()
        os.close(near)


def _logging(hooks: Hooks, handler: logging.Handler) -> Iterator[None]:
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    log = logging.getLogger("control")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    hooks.after = lambda: log.info("command sent, %d ticks late", hooks.ticker.skipped)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def no_fifo(hooks: Hooks) -> Iterator[None]:
    """The ordinary scheduler."""
    # RESET_ON_FORK, which the loop has, only root may take back.
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    yield


@contextmanager
def unlocked_memory(hooks: Hooks) -> Iterator[None]:
    """Pages that the kernel may take away."""
    if ctypes.CDLL(None, use_errno=True).munlockall():
        raise OSError(ctypes.get_errno(), "munlockall")
    yield


@contextmanager
def relative_sleep(hooks: Hooks, *, whole: bool = False) -> Iterator[None]:
    """`time.sleep` of what is left of the period, or of a whole one: a tick is due one period after
    the last woke."""
    ticker, tick = hooks.ticker, hooks.wait()
    assert tick is not None
    k, woke = tick.k, tick.t_wake

    def wait() -> Tick:
        nonlocal k, woke
        due = woke + ticker.period_ns
        left = ticker.period_ns if whole else max(0, due - clock.now_ns())
        time.sleep(left / 1e9)
        k, woke = k + 1, clock.now_ns()
        return Tick(k, due, woke)

    hooks.wait = wait
    yield


AS_IT_IS = "as it is"
VARIANTS: dict[str, Variant] = {
    AS_IT_IS: as_it_is,
    "messages": messages,
    "collector": collector,
    "log to a file": log_file,
    "log to a terminal": log_terminal,
    "decoding thread": decoding_thread,
    "Python thread": python_thread,
    "shared lock": shared_lock,
    "no SCHED_FIFO": no_fifo,
    "memory not locked": unlocked_memory,
    "relative sleep": relative_sleep,
}
# The negative control of what does not drift: nobody careful would have it.
CARELESS: dict[str, Variant] = {"whole sleep": partial(relative_sleep, whole=True)}
