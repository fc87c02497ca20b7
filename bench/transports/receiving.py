"""Processes that receive what a benchmark sends: told through a Pipe, they answer with times."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rt.cores import divide
from rt.shm import Ring
from transports.protocol import SPAWN, Array, Receiver, Transport

PATIENCE_S = 60
PRIORITY = 10
PAUSE_S = 0.001  # between two timed messages; a policy's are a hundred times as far apart
SENT_NS, INDEX = 0, 1  # words at the head of each message that is timed


def words(data: Array) -> Array:
    """The same memory as int64."""
    return data.reshape(-1).view(np.int64)


@contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """`work(connection, *arguments)` in a process of its own, killed at the end."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=work, args=(theirs, *arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()


def answer(connection: Connection) -> Any:
    """What a process says. Raises TimeoutError, EOFError if it is gone."""
    if not connection.poll(PATIENCE_S):
        raise TimeoutError(f"expected a receiver's answer within {PATIENCE_S} s, got none")
    return connection.recv()


def other_cores() -> tuple[int, ...]:
    """The cores of everybody but the one who is timed, who has the last."""
    return divide("last").others


def time_messages(connection: Connection, transports: dict[str, Transport]) -> None:
    """Told a transport and how many messages there will be: how long, in ns, each was under way,
    as soon as it is here. One with index −1 only asks whether anybody listens."""
    _settle()
    with ExitStack() as stack:
        receivers = {k: stack.enter_context(t.receiving()) for k, t in transports.items()}
        while True:
            which, count = connection.recv()
            _next(receivers[which])
            connection.send("here")
            index = -1
            while index < count - 1:
                data = _next(receivers[which])
                now = time.monotonic_ns()
                index = int(words(data)[INDEX])
                if index >= 0:
                    connection.send(now - int(words(data)[SENT_NS]))


def time_reads(connection: Connection, ring: str, period_s: float, timed: bool) -> None:
    """Told a number, read the newest as often, or until something is said: what each read cost,
    in ns."""
    if timed:
        _settle()
        with suppress(PermissionError):  # as control reads: nobody takes its core in mid-read
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    else:
        os.sched_setaffinity(0, other_cores())
    with Ring.attach(ring) as reader:
        out = reader.buffer()
        connection.send("here")
        while True:
            count = connection.recv()
            took: list[int] = []
            while len(took) < count and not connection.poll():
                time.sleep(period_s)
                start = time.monotonic_ns()
                reader.read_latest(out)
                took.append(time.monotonic_ns() - start)
            if len(took) < count:
                connection.recv()
            connection.send(took)


@contextmanager
def reading(readers: Sequence[Connection]) -> Iterator[None]:
    """Meanwhile each of these, in `time_reads`, reads without end."""
    for reader in readers:
        reader.send(1_000_000)
    yield
    for reader in readers:
        reader.send(0)
        answer(reader)


def _next(receive: Receiver) -> Array:
    while (data := receive()) is None:
        pass
    return data


def _settle() -> None:
    gc.disable()
    if (core := divide("last").control) is not None:
        os.sched_setaffinity(0, {core})
