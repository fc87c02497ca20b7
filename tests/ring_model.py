"""A model of the ring's protocol that visits every execution a memory order permits.

The writer is a list of stores and fences, the reader a list of loads and fences, with the step
numbers of docs/protocol.md. There is one memory (ARMv8 and x86 are multi-copy atomic): a store
happens when it becomes visible to all, a load when it is satisfied. A state is the set of stores
that have happened and the values of the loads that have; `accepted` walks through all of them.

Orders (the first that applies decides whether step i must happen before a later step j):
    same location                      always (coherence)
    a fence between them               always
    arm                                otherwise never. Not even along a dependency: the reader
                                       guesses `head`, and R1 must confirm the guess, which is what
                                       speculation past a branch amounts to
    tso (x86-64)                       otherwise always, except for streaming stores
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Order = Literal["arm", "tso"]
Value = int | tuple[int, int]  # head and seq count; a payload word says (sample, writer's life)

WORDS = 2  # of payload
FENCES = ("W2", "W4", "W6", "R2", "R5")


class Location(NamedTuple):
    """One word of memory."""

    kind: Literal["head", "seq", "payload"]
    slot: int = 0
    word: int = 0


HEAD = Location("head")


@dataclass(frozen=True)
class Access:
    """A store of `value`, or a load that only goes on if it finds `value` (None: anything)."""

    step: str
    location: Location
    value: Value | None
    streaming: bool = False


Fence = str
Step = Access | Fence


def writer(
    samples: range,
    slots: int,
    *,
    life: int = 0,
    without: Collection[str] = (),
    streaming: bool = False,
) -> list[Step]:
    """The writer's steps for `samples`, except those named in `without`."""
    steps: list[Step] = []
    for n in samples:
        slot = n % slots
        steps += [
            Access("W1", Location("seq", slot), 2 * n + 1),
            "W2",
            *(
                Access("W3", Location("payload", slot, word), (n, life), streaming)
                for word in range(WORDS)
            ),
            "W4",
            Access("W5", Location("seq", slot), 2 * n + 2),
            "W6",
            Access("W7", HEAD, n + 1),
        ]
    return [step for step in steps if name_of(step) not in without]


def reader(head: int, slots: int, k: int = 1, *, without: Collection[str] = ()) -> list[Step]:
    """One try at reading the `k` newest samples, having guessed that R1 finds `head`."""
    wanted = range(head - k, head)
    steps: list[Step] = [
        Access("R1", HEAD, head),
        "R2",
        Access("R3", Location("seq", wanted[0] % slots), 2 * wanted[0] + 2),
        *(
            Access("R4", Location("payload", n % slots, word), None)
            for n in wanted
            for word in range(WORDS)
        ),
        "R5",
        *(Access("R6", Location("seq", n % slots), 2 * n + 2) for n in wanted),
    ]
    return [step for step in steps if name_of(step) not in without]


def name_of(step: Step) -> str:
    """The step's number in the protocol."""
    return step if isinstance(step, str) else step.step


class Program:
    """Accesses with, for each, the set (as bits) of those that must happen before it."""

    def __init__(self, steps: list[Step], order: Order) -> None:
        self.accesses: list[Access] = []
        self.before: list[int] = []
        fenced = 0  # everything ahead of the last fence
        for step in steps:
            if isinstance(step, str):
                fenced = (1 << len(self.accesses)) - 1
                continue
            before = fenced
            for i, earlier in enumerate(self.accesses):
                in_order = order == "tso" and not (earlier.streaming or step.streaming)
                if in_order or earlier.location == step.location:
                    before |= 1 << i
            self.accesses.append(step)
            self.before.append(before)

    def next_sets(self, done: int) -> Iterator[tuple[int, int]]:
        """Each access that may happen now, with the set that results."""
        for i, before in enumerate(self.before):
            if not done >> i & 1 and before & done == before:
                yield i, done | 1 << i

    def load(self, done: int, location: Location) -> Value:
        """What memory holds at `location` once `done` has happened; zero at first."""
        value: Value = 0
        for i, access in enumerate(self.accesses):
            if done >> i & 1 and access.location == location:
                assert access.value is not None
                value = access.value
        return value

    def reachable(self) -> Iterator[int]:
        """Every set of stores that memory can ever show."""
        seen, todo = {0}, [0]
        while todo:
            done = todo.pop()
            yield done
            fresh = {after for _, after in self.next_sets(done)} - seen
            seen |= fresh
            todo += fresh


def accepted(stores: Program, loads: Program) -> set[tuple[Value, ...]]:
    """The payload words of every execution in which the reader accepts, in program order."""
    memory: dict[tuple[int, Location], Value] = {}
    nothing: tuple[Value | None, ...] = (None,) * len(loads.accesses)
    todo = [(0, 0, nothing)]  # stores that happened, loads that happened, what they found
    seen = set(todo)
    results: set[tuple[Value, ...]] = set()
    complete = (1 << len(loads.accesses)) - 1
    while todo:
        stored, loaded, values = todo.pop()
        if loaded == complete:
            results.add(
                tuple(
                    value
                    for access, value in zip(loads.accesses, values, strict=True)
                    if access.step == "R4" and value is not None
                )
            )
            continue
        fresh = [(after, loaded, values) for _, after in stores.next_sets(stored)]
        for i, after in loads.next_sets(loaded):
            location, wanted = loads.accesses[i].location, loads.accesses[i].value
            key = (stored, location)
            if key not in memory:
                memory[key] = stores.load(stored, location)
            found = memory[key]
            if wanted is None:
                fresh.append((stored, after, (*values[:i], found, *values[i + 1 :])))
            elif found == wanted:  # else: back to R1, or LAPPED
                fresh.append((stored, after, values))
        for state in fresh:
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return results
