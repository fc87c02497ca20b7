"""What is told of a session: every hold, late chunk and refused chunk once, with its tick."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from making import MakeRing, Simulate, late_once

from rt.events import Event, Events
from rt.records import STATUS, Hold, Order, Outcome, chunk_dtype, tick_dtype
from rt.shm import Ring
from rt.testing import SimulatedRun, config

New = Callable[[], list[Event]]


@pytest.fixture
def inference(make_ring: MakeRing) -> Ring:
    return make_ring(STATUS)


def follow(run: SimulatedRun, inference: Ring) -> New:
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
    return [(event.tick, event.kind) for event in events]


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
    assert [e.tick for e in events if e.kind == "hold"] == begins
    assert [e.tick for e in events if e.kind == "resumed"] == ends
    assert Hold.NO_STATE.name in {e.reason for e in events}
    assert all(e.reason == Hold(held[e.tick]).name for e in events if e.kind == "hold")
    length = {k: k - max(b for b in begins if b < k) for k in ends}
    assert all(f"after {length[e.tick]} tick" in str(e) for e in events if e.kind == "resumed")


def test_a_late_chunk_is_told_when_it_is_first_used(simulate: Simulate, inference: Ring) -> None:
    run = simulate(config(min_num_actions_executed=4), delay=late_once)
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
    late = [event for event in events if event.kind == "late_chunk"]
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
    told = [event for event in new() if event.kind == "expired_chunk"]
    assert len(told) == run.ticks[-1]["expired_chunks"] > 0


def test_a_refused_chunk_is_told_with_what_was_wrong(simulate: Simulate, inference: Ring) -> None:
    run = simulate(config())
    new = follow(run, inference)
    status = inference.buffer()
    run.tick(10)
    told = []
    for dropped, detail in ((0, ""), (1, "wrong"), (1, "wrong"), (2, "bad"), (5, "ill"), (6, "")):
        status["dropped"], status["detail"] = dropped, detail.encode()
        inference.write(status)
        run.tick()
        told += [e for e in new() if e.kind == "refused_chunk"]
    assert [(e.tick, e.reason, e.words) for e in told] == [
        (11, "wrong", "inference refused 1 chunk: wrong"),
        (13, "bad", "inference refused 1 chunk: bad"),
        (14, "ill", "inference refused 3 chunks: ill"),
        (15, told[-1].reason, f"inference refused 1 chunk: {told[-1].reason}"),
    ]
    assert "overwritten" in told[-1].reason


def test_a_missing_answer_is_told_once_until_there_is_one_or_other_words(
    simulate: Simulate, inference: Ring
) -> None:
    run = simulate(config())
    new = follow(run, inference)
    status = inference.buffer()
    status["pid"] = 7
    run.tick(10)
    new()
    told: list[Event] = []
    asked = ("no_answer", "refused_chunk")

    def outcome(what: Outcome, why: str = "", *, refused: int = 0) -> None:
        status["outcomes"][what] += 1
        status["dropped"] += refused
        status["detail"] = why.encode()
        inference.write(status)
        run.tick()
        told.extend(new())

    outcome(Outcome.OK)
    outcome(Outcome.TOO_LATE, "no answer within 1000 ms")
    outcome(Outcome.TOO_LATE, "no answer within 990 ms")  # other figures
    outcome(Outcome.UNREACHABLE, "nobody is there")
    outcome(Outcome.TOO_LATE, "no answer within 1000 ms")
    outcome(Outcome.UNREACHABLE, "the key is wrong")
    outcome(Outcome.OK)
    outcome(Outcome.TOO_LATE, "no answer within 1000 ms", refused=1)
    assert [(e.tick, e.kind, e.words, e.reason) for e in told if e.kind in asked] == [
        (11, "no_answer", "no chunk: no answer within 1000 ms (1 so far)", "TOO_LATE"),
        (13, "no_answer", "no chunk: nobody is there (1 so far)", "UNREACHABLE"),
        (15, "no_answer", "no chunk: the key is wrong (2 so far)", "UNREACHABLE"),
        (17, "no_answer", "no chunk: no answer within 1000 ms (4 so far)", "TOO_LATE"),
        (
            *(17, "refused_chunk", "inference refused 1 chunk: no answer within 1000 ms"),
            "no answer within 1000 ms",
        ),
    ]
    status["pid"], status["outcomes"], status["dropped"] = 8, 0, 0
    told.clear()
    outcome(Outcome.TOO_LATE, "no answer within 1000 ms")
    assert [e.reason for e in told if e.kind == "no_answer"] == ["TOO_LATE"]


@pytest.mark.parametrize("refused_before", [0, 1, 3])
def test_a_new_inference_process_counts_from_nought(
    simulate: Simulate, inference: Ring, refused_before: int
) -> None:
    run = simulate(config())
    new = follow(run, inference)
    run.tick()
    status = inference.buffer()
    status["pid"], status["dropped"] = 7, refused_before
    inference.write(status)
    new()
    status["pid"], status["dropped"] = 8, 1
    inference.write(status)
    assert [e.kind for e in new()] == ["refused_chunk"]


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
    words = [event.words for event in new() if event.kind == "episode"]
    assert words == [
        "episode 1 ended with success (1 of 1)",
        "episode 2 ended without success (1 of 2)",
    ]


def test_nothing_is_told_of_nothing(simulate: Simulate, inference: Ring) -> None:
    run = simulate(config())
    run.tick()
    events = Events(run._session.reader("chunk"), inference, 1)
    assert events.of(np.zeros(0, run.ticks[0].dtype)) == []


class Told:
    """What is told of tick records that are made up here."""

    def __init__(self, make_ring: MakeRing) -> None:
        self.chunks = make_ring(chunk_dtype(8, 2), 8)
        self.inference = make_ring(STATUS)
        self.events = Events(self.chunks, self.inference, 1)

    def of(self, *ticks: dict[str, Any], missed: int = 0) -> list[tuple[int, str, str]]:
        """Of each tick the fields that are not 0."""
        records = np.zeros(len(ticks), tick_dtype(2, 2))
        records["chunk"] = records["chunk_first_used_tick"] = -1
        for record, fields in zip(records, ticks, strict=True):
            for name, value in fields.items():
                record[name] = value
        return [(e.tick, e.kind, e.words) for e in self.events.of(records, missed)]

    def publish(self, count: int, **fields: int) -> None:
        chunk = self.chunks.buffer()
        chunk["previous_d_counted"] = -1
        for name, value in fields.items():
            chunk[name] = value
        for _ in range(count):
            self.chunks.write(chunk)


@pytest.fixture
def told(make_ring: MakeRing) -> Told:
    return Told(make_ring)


@pytest.mark.parametrize("looks", [1, 6])
def test_other_words_of_a_hold_are_told_and_other_figures_are_not(told: Told, looks: int) -> None:
    words = (b"", b"head: 1.5 s old", b"head: 31 s old", b"", b"head: 32 s old", b"wrist: 1 s old")
    ticks = [{"tick": k, "hold": Hold.NO_STATE, "why": why} for k, why in enumerate(words, start=1)]
    seen = [one for part in np.array_split(ticks, looks) for one in told.of(*part)]
    assert seen == [
        (1, "hold", "hold no_state"),
        (2, "hold_goes_on", "still hold no_state: head: 1.5 s old"),
        (6, "hold_goes_on", "still hold no_state: wrist: 1 s old"),
    ]
    again = {"hold": Hold.NO_STATE, "why": b"wrist: 2 s old"}
    assert told.of({"tick": 7, "why": b"wrist"}, {"tick": 8, **again}) == [
        (7, "resumed", "moves again, after 6 ticks of hold"),
        (8, "hold", "hold no_state: wrist: 2 s old"),
    ]


def test_another_reason_is_another_hold(told: Told) -> None:
    held = {"hold": Hold.ROBOT_FAULT, "why": b"hot"}
    seen = told.of({"tick": 1, "hold": Hold.NO_STATE, "why": b"hot"}, {"tick": 2, **held})
    assert [one[:2] for one in seen] == [(1, "hold"), (2, "hold")]
    assert told.of({"tick": 4}) == [(4, "resumed", "moves again, after 3 ticks of hold")]


def test_what_was_overwritten_unread_is_told(told: Told) -> None:
    told.of({"tick": 1})
    told.publish(30)
    seen = told.of({"tick": 50}, {"tick": 51, "expired_chunks": 3}, missed=48)
    assert seen == [
        (51, "missed", "48 ticks overwritten unread: what only they held is not told"),
        (51, "missed", "24 chunks overwritten unread: what only they held is not told"),
        (51, "expired_chunk", "3 chunks came after their last row was due"),
    ]
    told.publish(1)
    assert told.of({"tick": 52, "expired_chunks": 3}, missed=48) == []
    assert [one[1] for one in told.of(missed=49)] == ["missed"]


def test_what_happened_before_the_first_look_is_not_missed(told: Told) -> None:
    told.publish(30)
    assert told.of({"tick": 5000, "expired_chunks": 3, "episodes": 2}, missed=3000) == []


def test_a_chunk_whose_first_use_was_overwritten_is_late_in_the_tick_of_that_use(
    told: Told,
) -> None:
    told.of({"tick": 1})
    told.publish(1)  # planned for d = 0
    in_use = {"chunk": 0, "chunk_first_tick": 2, "chunk_first_used_tick": 5}
    seen = told.of({"tick": 9, **in_use}, {"tick": 10, **in_use}, missed=7)
    assert seen[1:] == [(5, "late_chunk", "chunk 0 came late: after 3 rows, planned were 0")]


def test_a_late_chunk_that_was_never_used_is_told_once(told: Told) -> None:
    told.of({"tick": 1})
    told.publish(1, obs_tick=1, d_planned=2)
    told.publish(1, obs_tick=9, d_planned=2, previous_d_counted=5)
    assert told.of({"tick": 8}) == []  # tick 9 may be the one that used it
    late = (9, "late_chunk", "chunk 0 came after 5 rows, planned were 2: unused")
    assert told.of({"tick": 9}) == [late]
    assert told.of({"tick": 10}) == []
    told.publish(1, d_planned=2, obs_tick=12, previous_d_counted=2)
    assert told.of({"tick": 12}) == []  # in time, and unused


def test_a_late_chunk_whose_use_is_read_after_its_count_is_told_once(told: Told) -> None:
    told.of({"tick": 1})
    told.publish(1, obs_tick=1, d_planned=0)
    told.publish(1, obs_tick=5, previous_d_counted=3)
    in_use = {"chunk": 0, "chunk_first_tick": 2, "chunk_first_used_tick": 5}
    assert told.of({"tick": 4}) == []
    seen = told.of({"tick": 5, **in_use}, {"tick": 6, **in_use})
    assert seen == [(5, "late_chunk", "chunk 0 came late: after 3 rows, planned were 0")]


def test_nobody_is_told_that_a_chunk_was_unused_whose_ticks_are_gone(told: Told) -> None:
    told.publish(1, obs_tick=40, d_planned=2)
    told.publish(1, obs_tick=50, d_planned=2, previous_d_counted=5)
    assert told.of({"tick": 5000}, {"tick": 5001}, missed=3000) == []  # who begins late
    told.publish(1, obs_tick=5001, d_planned=2)
    told.publish(1, obs_tick=5010, d_planned=2, previous_d_counted=5)
    seen = told.of({"tick": 5020}, missed=3010)  # the ticks in between were overwritten
    assert [kind for _, kind, _ in seen] == ["missed"]
