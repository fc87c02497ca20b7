"""The ring's protocol, in every execution that the memory orders of ARM and x86 permit, and the
code's steps against the model's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pytest
from ring_model import FENCES, HEAD, Access, Location, Order, Program, Step, accepted, name_of
from ring_model import reader as reader_steps
from ring_model import writer as writer_steps
from shm_names import fresh_name

from rt.shm import Ring
from rt.shm.layout import AT_HEAD

BOTH_SIZES = pytest.mark.parametrize(
    ("slots", "k"), [(2, 1), (3, 1), (3, 2)], ids=["2 slots", "3 slots", "window of 2"]
)


def torn(
    *,
    slots: int = 2,
    k: int = 1,
    order: Order = "arm",
    without: Collection[str] = (),
    died_at: int | None = None,
    streaming: bool = False,
) -> set[tuple[Any, ...]]:
    """Every payload that some execution accepts although it is not the samples it is said to be.

    The writer goes twice round the ring; if it dies, after `died_at` steps, another resumes.
    """
    samples = 2 * slots + 1
    options: dict[str, Any] = {"without": without, "streaming": streaming}
    lives = [writer_steps(range(samples), slots, **options)]
    if died_at is not None:
        lives[0] = lives[0][:died_at]
        head = sum(name_of(step) == "W7" for step in lives[0])
        lives.append(writer_steps(range(head, samples), slots, life=1, **options))
    # Whoever published a sample says what it holds. A death is a fence: the kernel was entered.
    life_of = {
        step.value: life
        for life, steps in enumerate(lives)
        for step in steps
        if isinstance(step, Access) and step.step == "W7"
    }
    stores = Program([step for steps in lives for step in (*steps, "death")], order)
    wrong: set[tuple[Any, ...]] = set()
    for head in range(k, samples + 1):
        right = tuple((n, life_of[n + 1]) for n in range(head - k, head) for _ in range(2))
        loads = Program(reader_steps(head, slots, k, without=without), order)
        wrong |= accepted(stores, loads) - {right}
    return wrong


def broken_promises(without: Collection[str] = ()) -> set[str]:
    """What memory itself promises, and does not keep in some reachable state."""
    slots = 2
    stores = Program(writer_steps(range(2 * slots + 1), slots, without=without), "arm")
    broken: set[str] = set()
    for done in stores.reachable():
        head: Any = stores.load(done, HEAD)
        newest: Any = stores.load(done, Location("seq", (head - 1) % slots))
        if newest < 2 * head:
            broken.add("head is ahead of its slot")
        for slot in range(slots):
            seq: Any = stores.load(done, Location("seq", slot))
            words = {stores.load(done, Location("payload", slot, word)) for word in range(2)}
            if seq and seq % 2 == 0 and words != {(seq // 2 - 1, 0)}:
                broken.add("a complete slot is not whole")
    return broken


@BOTH_SIZES
def test_no_execution_on_arm_accepts_a_torn_or_mislabelled_sample(slots: int, k: int) -> None:
    assert torn(slots=slots, k=k) == set()


def test_the_model_accepts_every_sample_at_all() -> None:
    """The checks above would pass for a reader that never accepts."""
    stores = Program(writer_steps(range(3), 2), "arm")
    for head in (1, 2, 3):
        assert accepted(stores, Program(reader_steps(head, 2), "arm")) == {((head - 1, 0),) * 2}


def test_memory_keeps_the_labels_true_in_every_state() -> None:
    assert broken_promises() == set()


@pytest.mark.parametrize("step", ["W1", "W2", "R2", "R5", "R6"])
def test_leaving_out_a_step_tears(step: str) -> None:
    assert torn(without=[step])


def test_leaving_out_w4_makes_a_complete_slot_not_whole() -> None:
    assert broken_promises(without=["W4"]) == {"a complete slot is not whole"}


def test_leaving_out_w6_puts_head_ahead_of_its_slot() -> None:
    assert broken_promises(without=["W6"]) == {"head is ahead of its slot"}


def test_leaving_out_w4_and_w6_tears() -> None:
    """Each alone would keep `read_latest` whole: whoever sees W7 has passed one of them."""
    assert not torn(without=["W4"])
    assert not torn(without=["W6"])
    assert torn(without=["W4", "W6"])


@BOTH_SIZES
def test_leaving_out_r3_changes_nothing(slots: int, k: int) -> None:
    assert torn(slots=slots, k=k, without=["R3"]) == set()


@pytest.mark.parametrize("died_at", range(5 * 8))
def test_a_writer_that_dies_at_any_step_and_one_that_resumes_never_tear(died_at: int) -> None:
    assert torn(died_at=died_at) == set()
    assert torn(died_at=died_at, without=["R3"]) == set()


@pytest.mark.parametrize("died_at", range(3 * 8))
def test_after_a_death_at_any_step_a_single_try_reads_the_newest_sample(died_at: int) -> None:
    steps = writer_steps(range(3), 2)[:died_at]
    stores = Program(steps, "arm")
    everything = (1 << len(stores.accesses)) - 1
    head: Any = stores.load(everything, HEAD)
    for load in reader_steps(head, 2) if head else []:
        if isinstance(load, Access):
            expected = (head - 1, 0) if load.step == "R4" else load.value
            assert stores.load(everything, load.location) == expected


def test_x86_needs_no_fence_for_ordinary_stores() -> None:
    assert torn(order="tso", without=FENCES) == set()
    assert torn(order="tso", without=[*FENCES, "W1"])
    assert torn(order="tso", without=[*FENCES, "R6"])


def test_x86_needs_w2_and_one_of_w4_and_w6_for_streaming_stores() -> None:
    """glibc's memcpy of a large payload: its own sfence is at the end only."""
    assert torn(order="tso", streaming=True, without=["R2", "R5"]) == set()
    assert torn(order="tso", streaming=True, without=["W2"])
    assert torn(order="tso", streaming=True, without=["W4", "W6"])


# The code takes the model's steps, in the model's order.


class Traced:
    """Notes each access to a ring's words or payloads, in the model's terms."""

    def __init__(self, ring: Ring, *, storing: bool) -> None:
        self.events: list[str] = []
        self.words, self.payloads, self.storing = ring._words, ring._payloads, storing
        self.names = {at: f"seq[{slot}]" for slot, at in enumerate(ring._seq_at)}
        self.names[AT_HEAD] = "head"
        any_ring: Any = ring
        any_ring._words = self
        any_ring._payloads = _TracedPayloads(self)
        any_ring._release = any_ring._acquire = lambda: self.events.append("fence")

    def __getitem__(self, at: int) -> int:
        self.events.append(f"load {self.names.get(at)}")
        return int(self.words[at])

    def __setitem__(self, at: int, value: int) -> None:
        self.events.append(f"store {self.names.get(at)} = {value}")
        self.words[at] = value


class _TracedPayloads:
    def __init__(self, trace: Traced) -> None:
        self.trace = trace

    def __getitem__(self, slot: int) -> memoryview:
        verb = "store" if self.trace.storing else "load"
        self.trace.events.append(f"{verb} payload[{slot}]")
        return self.trace.payloads[slot]


def events(steps: list[Step], *, storing: bool) -> list[str]:
    """The model's steps as `Traced` would note them; a payload is one access."""
    noted: list[str] = []
    for step in steps:
        if isinstance(step, str):
            noted.append("fence")
            continue
        where = step.location
        place = where.kind if where == HEAD else f"{where.kind}[{where.slot}]"
        value = f" = {step.value}" if storing and where.kind != "payload" else ""
        event = f"{'store' if storing else 'load'} {place}{value}"
        if noted[-1:] != [event] or where.kind != "payload":
            noted.append(event)
    return noted


@pytest.fixture
def ring() -> Iterator[Ring]:
    name = fresh_name()
    try:
        with Ring.create(name, np.dtype([("n", "i8")]), slots=3) as ring:
            yield ring
    finally:
        Ring.unlink(name)


def test_the_writer_takes_the_models_steps(ring: Ring) -> None:
    record = ring.buffer()
    ring.write(record)
    trace = Traced(ring, storing=True)
    for _ in range(4):
        ring.write(record)
    assert trace.events == events(writer_steps(range(1, 5), 3), storing=True)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_reader_takes_the_models_steps(ring: Ring, k: int) -> None:
    outs = np.zeros(k, ring.dtype)
    for _ in range(5):
        ring.write(ring.buffer())
    trace = Traced(ring, storing=False)
    assert ring.read_window(outs, k) == 4
    assert trace.events == events(reader_steps(5, 3, k), storing=False)
    if k == 1:
        trace.events.clear()
        assert ring.read_latest(ring.buffer()) == 4
        assert trace.events == events(reader_steps(5, 3), storing=False)
