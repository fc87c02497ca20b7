"""What is told of a session: every hold, late chunk and refused chunk once, with its tick."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from making import MakeRing, Simulate

from rt.events import Event, Events
from rt.records import STATUS, Hold, Order
from rt.shm import Ring
from rt.testing import SimulatedRun, config

Told = Callable[[], list[Event]]


@pytest.fixture
def inference(make_ring: MakeRing) -> Ring:
    return make_ring(STATUS)


def follow(run: SimulatedRun, inference: Ring) -> Told:
    """What happened in `run` since the last call."""
    params = run.config.params
    events = Events(run._session.reader("chunk"), inference, params.ticks_per_row)
    told = 0

    def new() -> list[Event]:
        nonlocal told
        ticks = np.array(run.ticks[told:], run.ticks[0].dtype if run.ticks else None)
        told = len(run.ticks)
        return events.of(ticks)

    return new


def kinds(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.tick, event.event) for event in events]


@pytest.mark.parametrize("look_every", [1, 3, 7])
def test_every_hold_is_told_once_with_its_first_tick(
    simulate: Simulate, inference: Ring, look_every: int
) -> None:
    run = simulate(config(min_num_actions_executed=4), delay=lambda n: 2.5)
    new, events = follow(run, inference), []
    for k in range(60):
        if k == 30:
            run.robot.reading = "none"
        if k == 35:
            run.robot.reading = "fresh"
        run.tick()
        if k % look_every == 0:
            events += new()
    events += new()
    held = [int(tick["hold"]) for tick in run.ticks]
    begins = [k for k in range(60) if held[k] and held[k] != (held[k - 1] if k else 0)]
    ends = [k for k in range(1, 60) if not held[k] and held[k - 1]]
    assert [e.tick for e in events if e.event == "hold"] == begins
    assert [e.tick for e in events if e.event == "resumed"] == ends
    assert Hold.NO_STATE.name in {e.reason for e in events}
    assert all(e.reason == Hold(held[e.tick]).name for e in events if e.event == "hold")
    length = {k: k - max(b for b in begins if b < k) for k in ends}
    assert all(f"after {length[e.tick]} tick" in str(e) for e in events if e.event == "resumed")


def test_a_late_chunk_is_told_when_it_is_first_used(simulate: Simulate, inference: Ring) -> None:
    run = simulate(config(min_num_actions_executed=4), delay=lambda n: 6.5 if n == 5 else 2.5)
    new, events = follow(run, inference), []
    for _ in range(12):
        run.tick(5)
        events += new()
    counted = [
        (index, int(after["previous_d_counted"]), int(chunk["d_planned"]))
        for index, (chunk, after) in enumerate(pairwise(run.chunks))
        if after["previous_d_counted"] > chunk["d_planned"]
    ]
    assert (4, 7, 3) in counted
    late = [event for event in events if event.event == "late_chunk"]
    assert [event.words for event in late] == [
        f"chunk {index} came late: after {rows} rows, planned were {planned}"
        for index, rows, planned in counted
    ]
    assert [event.tick for event in late] == [
        int(run.chunks[index]["first_tick"]) + rows for index, rows, _ in counted
    ]


def test_chunks_that_came_after_their_last_row_are_told(
    simulate: Simulate, inference: Ring
) -> None:
    run = simulate(config(min_num_actions_executed=4, action_chunk_size=8), delay=lambda n: 9.5)
    new = follow(run, inference)
    run.tick(60)
    told = [event for event in new() if event.event == "expired_chunk"]
    assert len(told) == run.ticks[-1]["expired_chunks"] > 0


def test_a_refused_chunk_is_told_with_what_was_wrong(simulate: Simulate, inference: Ring) -> None:
    run = simulate(config())
    new = follow(run, inference)
    status = inference.buffer()
    run.tick(10)
    for dropped in (0, 1, 1, 2):
        status["dropped"], status["detail"] = dropped, f"wrong {dropped}".encode()
        inference.write(status)
        run.tick()
        told = [e for e in new() if e.event == "refused_chunk"]
        if told:
            assert told == [Event(0, len(run.ticks) - 1, "refused_chunk", told[0].words)]
            assert told[0].words == f"inference refused a chunk: wrong {dropped}"
    status["dropped"] = 0  # a new process
    inference.write(status)
    status["dropped"] = 1
    inference.write(status)
    assert [e.event for e in new()] == ["refused_chunk"]


def test_the_end_of_an_episode_is_told_with_its_success(
    simulate: Simulate, inference: Ring
) -> None:
    run = simulate(config())
    new = follow(run, inference)
    run.tick(20)
    run.order(Order.SUCCESS)
    run.tick(20)
    run.order(Order.NEXT_EPISODE)
    run.tick(20)
    words = [event.words for event in new() if event.event == "episode"]
    assert words == [
        "episode 1 ended with success (1 of 1)",
        "episode 2 ended without success (1 of 2)",
    ]


def test_nothing_is_told_of_nothing(simulate: Simulate, inference: Ring) -> None:
    run = simulate(config())
    run.tick()
    events = Events(run._session.reader("chunk"), inference, 1)
    assert events.of(np.zeros(0, run.ticks[0].dtype)) == []
