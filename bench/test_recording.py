"""What a recording beside a session costs: the control loop nothing, the other cores a process.

A whole session at 1 kHz, with the simulator, its three cameras and the demonstration policy, which
begins anew soon after each chunk. `rt.record` records every other stretch of it, to a disk.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from budgets import judge
from cyclictest import percentiles
from launched import PATIENCE_S, Launched, until
from mcap.reader import make_reader
from numpy.typing import NDArray
from ratio import told
from results import keep, report
from watching import OFTEN

from rt.record.reading import Recording
from rt.session import Session
from rt.tail import Tail

HZ = 1000
LOOK_S = 0.1  # the tick ring comes round in two seconds
SETTLE_S = 0.3  # a recording begins with a second of ticks from before it


class Stretch(NamedTuple):
    """What a stretch of time showed."""

    wake_us: NDArray[np.float64]  # (n,) how late each tick woke
    work_us: NDArray[np.float64]  # (n,) how long its work took
    inference_ms: NDArray[np.float64]  # (m,) of each chunk
    lost: int  # ticks that were due and skipped


class Cost(NamedTuple):
    """What a recorder took and what it wrote, in a second; and what it lost in all."""

    share: float  # of one core
    messages: float
    megabytes: float
    lost: int


class Recorder:
    """`rt.record` as its users start it, from when it has caught up."""

    def __init__(self, session: str, folder: Path) -> None:
        command = ["-m", "rt.record", "--session", session, "--to", str(folder)]
        self._process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        self._file: Path = until("a recording", lambda: next(folder.glob("*.mcap"), None))
        time.sleep(SETTLE_S)
        self._began, self._used = time.monotonic(), self._cpu_s()

    def end(self) -> Cost:
        """Its figures; asked for before it finishes its file."""
        share = (self._cpu_s() - self._used) / (time.monotonic() - self._began)
        self._process.terminate()
        assert self._process.wait(PATIENCE_S) == 0
        recording = Recording(self._file)
        assert not recording.problem, recording.problem
        with self._file.open("rb") as file:
            found = make_reader(file).get_summary().statistics
        seconds = (found.message_end_time - found.message_start_time) / 1e9
        size = self._file.stat().st_size / 1e6
        lost = sum(recording.lost.values())
        return Cost(share, found.message_count / seconds, size / seconds, lost)

    def _cpu_s(self) -> float:
        """Of all its threads, so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stretch(session: Session, seconds: float) -> Stretch:
    """What the session does in the next `seconds`."""
    with session.reader("tick") as tick_ring, session.reader("chunk") as chunk_ring:
        tails = [Tail(tick_ring), Tail(chunk_ring)]
        for tail, ring in zip(tails, (tick_ring, chunk_ring), strict=True):
            tail.seen = ring.head
        found: tuple[list[NDArray[Any]], ...] = ([], [])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(LOOK_S)
            for tail, records in zip(tails, found, strict=True):
                records.append(tail.new().copy())
        assert not any(tail.missed for tail in tails)
    ticks, chunks = map(np.concatenate, found)
    return Stretch(
        (ticks["t_wake"] - ticks["t_due"]) / 1e3,
        (ticks["t_done"] - ticks["t_wake"]) / 1e3,
        (chunks["t_publish"] - chunks["t_start"]) / 1e6,
        int(ticks["overruns"][-1] - ticks["overruns"][0]),
    )


def test_a_tick_is_the_same_beside_a_recorder(core: int, benchmark, long: bool) -> None:  # type: ignore[no-untyped-def]
    count, seconds = (11, 4.0) if long else (3, 1.2)
    pairs: list[tuple[Stretch, Stretch]] = []
    costs: list[Cost] = []

    with Launched("bench", "--set", f"ticks_per_row={HZ // 20}", *OFTEN) as run:
        run.when_chunks(2)
        session = Session(run.session)

        def one_pair() -> None:
            # Not /tmp, which may be memory.
            with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
                recorder = Recorder(session.name, Path(folder))
                beside = stretch(session, seconds)
                costs.append(recorder.end())
            pairs.append((beside, stretch(session, seconds)))

        benchmark.pedantic(one_pair, rounds=count)
        assert run.stop() == 0, run.output
    figures = figures_of(pairs, costs)
    keep("recording", hz=HZ, seconds=seconds * count, **figures)
    tell(figures, count)
    assert figures["recorder"]["lost"] == 0, "records were lost: is the machine busy?"
    for of in ("wake", "work"):
        judge(f"recording.{of}.p99", figures[of]["ratios"])


def figures_of(pairs: list[tuple[Stretch, Stretch]], costs: list[Cost]) -> dict[str, Any]:
    """For the page; of two values the first is beside the recorder."""
    inference = [np.concatenate([pair[i].inference_ms for pair in pairs]) for i in (0, 1)]
    medians = {name: statistics.median(getattr(c, name) for c in costs) for name in Cost._fields}
    return {
        "wake": compared(pairs, "wake_us"),
        "work": compared(pairs, "work_us"),
        "lost": [sum(pair[i].lost for pair in pairs) for i in (0, 1)],
        "inference": [{"p50_ms": float(np.median(ms)), "chunks": len(ms)} for ms in inference],
        "recorder": medians | {"lost": sum(cost.lost for cost in costs)},
    }


def compared(pairs: list[tuple[Stretch, Stretch]], of: str) -> dict[str, Any]:
    """Percentiles of all pairs together; the ratio of each pair's p99 by itself."""
    sides = [[getattr(pair[i], of) for pair in pairs] for i in (0, 1)]
    p99s = [[percentiles(times)["p99"] for times in side] for side in sides]
    beside, alone = (percentiles(np.concatenate(side)) for side in sides)
    return {"beside": beside, "alone": alone, "ratios": np.divide(*p99s).tolist()}


def tell(figures: dict[str, Any], count: int) -> None:
    """Have them printed at the end of the run."""
    for of, words in (("wake", "wake error"), ("work", "work")):
        beside, alone = (
            ", ".join(f"{q} {figures[of][side][q]:.0f}" for q in ("p50", "p99", "p99.9"))
            for side in ("beside", "alone")
        )
        report(
            f"a tick's {words} at 1 kHz beside a recorder",
            f"{beside} us; without it {alone} us; ratio of the p99s {told(figures[of]['ratios'])}, "
            f"{count} alternated pairs",
        )
    cost, (beside, alone) = figures["recorder"], figures["inference"]
    report(
        "a recorder",
        f"{cost['share']:.1%} of a core for {cost['messages']:.0f} messages and "
        f"{cost['megabytes']:.2f} MB a second, {cost['lost']} records lost; an inference beside it "
        f"p50 {beside['p50_ms']:.0f} ms, without it {alone['p50_ms']:.0f} ms",
    )
