"""What it costs to hand a chunk, or frames, to another process, beside what people use instead."""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
import pytest
from budgets import judge
from ratio import cpu_us
from results import keep, report

from rt.shm import Ring
from transports.in_memory import SLOTS
from transports.protocol import Sender, Transport
from transports.ray_actor import time_ray
from transports.receiving import (
    INDEX,
    PAUSE_S,
    SENT_NS,
    answer,
    other_cores,
    process,
    reading,
    time_messages,
    time_reads,
    words,
)
from transports.table import all_of

OURS = "rt.shm.Ring"
MESSAGES = {"chunk": ((50, 24), "f4"), "frames": ((3, 3, 240, 320), "u1")}

Trip = Callable[[], None]


@pytest.fixture
def name() -> str:
    return f"rt-bench.{os.getpid()}"


@pytest.mark.parametrize("size", MESSAGES)
def test_what_a_message_costs_both_sides(benchmark, name: str, size: str, long: bool) -> None:  # type: ignore[no-untyped-def]
    costs: dict[str, list[float]] = {}

    def measure() -> None:
        with all_of(*MESSAGES[size], name) as transports, ExitStack() as stack:
            trips = {k: stack.enter_context(trip(t)) for k, t in transports.items()}
            repeats = {k: max(1, int(0.01 / (cpu_us(t, 5) / 1e6))) for k, t in trips.items()}
            for _ in range(25 if long else 9):
                for what, one in trips.items():
                    costs.setdefault(what, []).append(cpu_us(one, repeats[what]))

    benchmark.pedantic(measure, rounds=1)
    medians = {what: statistics.median(values) for what, values in costs.items()}
    keep("transport", slots=SLOTS, **{f"{size}_cost_us": medians})
    report(f"{size}, CPU time of sender and receiver", listed(medians))
    if size == "chunk":
        for peer, budget in (
            ("iceoryx2, by address", "ring.iceoryx2"),
            ("Pipe, bytes", "ring.pipe"),
        ):
            judge(budget, [a / b for a, b in zip(costs[OURS], costs[peer], strict=True)])


@pytest.mark.parametrize("size", MESSAGES)
def test_how_long_a_message_is_under_way(benchmark, name: str, size: str, long: bool) -> None:  # type: ignore[no-untyped-def]
    took: dict[str, list[int]] = {}
    rounds, count = (10, 300) if long else (3, 70)

    def measure() -> None:
        with all_of(*MESSAGES[size], name) as transports, ExitStack() as stack:
            stack.enter_context(on_cores(other_cores()))
            senders = {k: stack.enter_context(t.sending()) for k, t in transports.items()}
            reader = stack.enter_context(process(time_messages, transports))
            routes: dict[str, Callable[[int], Iterable[int]]] = {
                k: partial(one_way, reader, k, sender) for k, sender in senders.items()
            }
            routes |= stack.enter_context(ray_route(size))
            for _ in range(rounds):
                for what, route in routes.items():
                    took.setdefault(what, []).extend(route(count))

    benchmark.pedantic(measure, rounds=1)
    figures = {k: [float(q) / 1e3 for q in np.percentile(v, [50, 99])] for k, v in took.items()}
    keep("transport", **{f"{size}_way_us": figures})
    for i, quantile in enumerate(("p50", "p99")):
        found = listed({what: both[i] for what, both in figures.items()})
        report(f"{size}, one way between two processes, {quantile}", found)


def test_a_read_costs_the_same_beside_other_readers(benchmark, name: str, long: bool) -> None:  # type: ignore[no-untyped-def]
    (shape, dtype), pairs, reads = MESSAGES["chunk"], 20 if long else 7, 1500 if long else 250
    p99: dict[int, list[float]] = {1: [], 2: [], 3: []}

    def measure() -> None:
        with ExitStack() as stack:
            stack.enter_context(on_cores(other_cores()))
            stack.callback(Ring.unlink, name)
            ring = Ring.create(name, np.dtype([("data", dtype, shape)]))
            stack.callback(ring.close)
            reader, *others = (
                stack.enter_context(process(time_reads, name, 0.0005 if timed else 0.001, timed))
                for timed in (True, False, False)
            )
            buffer = ring.buffer()
            for one in (reader, *others):
                assert answer(one) == "here"
            for _ in range(pairs):
                for readers, values in p99.items():
                    with reading(others[: readers - 1]):
                        reader.send(reads)
                        while not reader.poll():
                            time.sleep(PAUSE_S)
                            ring.write(buffer)
                        values.append(float(np.percentile(answer(reader), 99)) / 1e3)

    benchmark.pedantic(measure, rounds=1)
    medians = {readers: statistics.median(values) for readers, values in p99.items()}
    keep("transport", read_p99_us={str(k): v for k, v in medians.items()})
    report(
        "a chunk read at 2 kHz, p99",
        ", ".join(f"{k} readers {v:.2f} us" for k, v in medians.items()),
    )
    judge("ring.readers.p99", [b / a for a, b in zip(p99[1], p99[3], strict=True)])


@contextmanager
def trip(transport: Transport) -> Iterator[Trip]:
    """Send one message and receive it, in this process."""
    with transport.sending() as (data, send), transport.receiving() as receive:
        data[...] = 1
        send()
        while (got := receive()) is None:
            pass
        assert np.array_equal(got, data), f"{transport} delivered something else"

        def one() -> None:
            send()
            while receive() is None:
                pass

        yield one


def one_way(reader: Connection, what: str, sender: Sender, count: int) -> Iterator[int]:
    """How long each of `count` messages was under way, in ns, one at a time."""
    reader.send((what, count))
    while not reader.poll(0.05):
        send_stamped(sender, -1)
    assert answer(reader) == "here"
    for index in range(count):
        time.sleep(PAUSE_S)
        send_stamped(sender, index)
        yield answer(reader)


@contextmanager
def ray_route(size: str) -> Iterator[dict[str, Callable[[int], list[int]]]]:
    """The same to an actor, where Ray is installed."""
    if importlib.util.find_spec("ray") is None:
        yield {}
        return
    with process(time_ray, *MESSAGES[size]) as driver:
        answer(driver)  # of its first message, before which the actor was started

        def route(count: int) -> list[int]:
            driver.send(count)
            took: list[int] = answer(driver)
            return took

        yield {"Ray actor": route}
        driver.send(0)
        answer(driver)


def send_stamped(sender: Sender, index: int) -> None:
    """Send it with the time and its index in it."""
    data, send = sender
    words(data)[INDEX] = index
    words(data)[SENT_NS] = time.monotonic_ns()
    send()


@contextmanager
def on_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """This process meanwhile on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def listed(figures: dict[str, float]) -> str:
    """In a line, each beside ours."""
    return ", ".join(f"{k} {v:.2f} us ({v / figures[OURS]:.1f}x)" for k, v in figures.items())
