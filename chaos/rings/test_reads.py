"""Readers of rings under writers that never rest, pause, are stopped in mid-write and killed.

Then the same with one step of the protocol left out, which must show: a proof that cannot fail
would prove nothing.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from actors import RESTS, Reader, Writer
from launched import SHM
from reliability import tell
from scale import Scale
from story import Found, Story

SHARES = {64: 0.6, 640: 0.2, 4_800: 0.188, 20_480: 0.011, 691_200: 0.001}
"""How much of all reads is of records of so many bytes. The last is three cameras' frames."""
READS_OF_A_STORY = 800_000  # of all sizes; at most MANY stories of each size
MANY = 24
BLOCKED_MS = 1_000.0
CORES = sorted(os.sched_getaffinity(0))
BOTH = tuple(Reader(core, fifo=False, window=1) for core in (CORES[0], CORES[-1]))


def play(stories: list[Story]) -> list[Found]:
    """One story after the other, in a process of their own; see story.py."""
    path = Path(__file__).parent / "story.py"
    command = [sys.executable, str(path), msgspec.json.encode(stories).decode()]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            told, errors = process.communicate()
        finally:
            process.kill()  # its children die with it
            for ring in SHM.glob(f"rt-test.{process.pid}.*"):
                ring.unlink(missing_ok=True)
    assert process.returncode == 0, errors
    return msgspec.json.decode(told, type=list[Found])


def stories(octets: int, reads: int, count: int, dice: random.Random) -> Iterator[Story]:
    """So many stories, each with its part of the reads; every rest has its turn."""
    rests = dice.sample(list(RESTS), len(RESTS))
    for i in range(count):
        slots = dice.choice((2, 3, 4, 8, 16))
        yield Story(
            octets=octets,
            slots=slots,
            writer=Writer(
                core=dice.choice((-1, *CORES)),
                rest=rests[i % len(rests)] if i % 3 else "never",
                in_place=dice.random() < 0.7,
            ),
            readers=tuple(
                Reader(
                    core=CORES[n % len(CORES)],
                    fifo=n >= 2 and dice.random() < 0.7,
                    window=min(3, slots - 1) if n % 2 else 1,
                )
                for n in range(dice.randint(2, 4))
            ),
            reads=reads // count,
            deeds=6,
            seed=dice.randrange(1 << 30),
        )


@pytest.mark.parametrize("octets", SHARES)
def test_no_read_is_torn_or_blocked_whatever_the_writer_does(
    octets: int, scale: Scale, dice: random.Random
) -> None:
    count = max(1, min(MANY, scale.reads // READS_OF_A_STORY))
    told = list(stories(octets, int(scale.reads * SHARES[octets]), count, dice))
    every = play(told)
    for story, found in zip(told, every, strict=True):
        assert not found.is_anything_wrong, f"{story}: {found}"

    def total(name: str) -> int:
        return sum(getattr(found, name) for found in every)

    def longest_ms(name: str) -> float:
        return float(max(getattr(found, name) for found in every) / 1e6)

    assert total("new") > len(every), "hardly anything was written: this run proved nothing"
    fifo = total("fifo_readers")
    tell(
        "reads",
        f"{total('reads'):,} reads of {octets:,} B in {len(every)} rings of 2 to 16 slots, writers "
        f"stopped {total('stops')} times ({total('stops_in_mid_write')} in mid-write) and "
        f"killed {total('kills')} times",
        f"0 torn, 0 backwards, 0 blocked; {total('new'):,} brought a new sample; "
        f"{total('laps'):,} more given up because the writer went round the ring; longest "
        f"{longest_ms('longest_ns'):.1f} ms, preemption included"
        + (f" ({longest_ms('longest_fifo_ns'):.2f} ms by {fifo} SCHED_FIFO readers)" * (fifo > 0)),
    )
    if scale.reads >= 10_000_000:  # the others wait for a core, on a busy machine for long
        assert longest_ms("longest_fifo_ns") < BLOCKED_MS


CAUGHT_AS = {
    "W1": {"torn", "unwhole"},
    "W3 last": {"torn", "unwhole"},
    "W5": {"blocked", "ahead"},
    "W5 early": {"unwhole"},
    "W7": {"blocked"},
    "W7 early": {"blocked", "ahead"},
    "R1": {"blocked"},
    "R4": {"torn"},
    "R6": {"torn"},
    "R6 older": {"torn"},
}
KEPT = ("nothing", "R3")
IN_WORDS = {
    "nothing": "no step left out",
    "W3 last": "W3 after W7",
    "W5 early": "W5 before W3",
    "W7 early": "W7 before W3",
    "R6 older": "R6 left out for the older samples of a window",
}
FINDINGS = {
    "torn": "torn copies",
    "blocked": "blocked readers",
    "unwhole": "slots not whole",
    "ahead": "times head ahead of its slot",
}


def without(fault: str, reads: int, seed: int) -> Story:
    """A story that shows what a missing step does: large records, filled in place."""
    window = 3 if fault == "R6 older" else 1
    return Story(
        octets=65_536,
        slots=window + 1,
        writer=Writer(core=-1, rest="never", in_place=True),
        readers=tuple(msgspec.structs.replace(reader, window=window) for reader in BOTH),
        reads=reads,
        deeds=reads // 2_000,
        seed=seed,
        fault=fault,
        patience_s=0.5 if "blocked" in CAUGHT_AS.get(fault, ()) else 20.0,
    )


def control(fault: str) -> str:
    """For the page."""
    return f"Negative control: {IN_WORDS.get(fault, f'{fault} left out')}"


@pytest.fixture(scope="module")
def shown(scale: Scale, request: pytest.FixtureRequest) -> dict[str, Found]:
    """What each story shows, by what is left out in it."""
    dice = random.Random(request.config.getoption("--seed"))
    reads = dict.fromkeys(CAUGHT_AS, min(scale.reads, 2_000_000)) | dict.fromkeys(KEPT, 10_000)
    told = play([without(fault, n, dice.randrange(1 << 30)) for fault, n in reads.items()])
    return dict(zip(reads, told, strict=True))


@pytest.mark.parametrize("fault", CAUGHT_AS)
def test_a_protocol_without_one_step_is_caught(
    fault: str, scale: Scale, shown: dict[str, Found]
) -> None:
    """The negative controls. One that shows nothing, by chance, proves nothing."""
    found = shown[fault]
    findings = {name: getattr(found, name) for name in FINDINGS if getattr(found, name)}
    if not findings and scale.reads < 10_000_000:
        pytest.skip(f"{found.reads} reads happened to show nothing of {fault} on this machine")
    assert CAUGHT_AS[fault] & findings.keys(), f"{fault}: {found}"
    assert found.tries > 0, "no reader had begun"
    words = ", ".join(f"{count} {FINDINGS[name]}" for name, count in findings.items())
    tell("reads", control(fault), f"caught: {words}")


@pytest.mark.parametrize("kept", KEPT)
def test_a_protocol_without_its_vain_step_is_not_caught(kept: str, shown: dict[str, Found]) -> None:
    """The control of the controls: BrokenRing with nothing broken, and without R3, which only
    saves a vain copy."""
    assert not shown[kept].is_anything_wrong, shown[kept]
    tell("reads", control(kept), "nothing, as it must")
