"""What a recording beside a session costs: the control loop nothing, the other cores a process.

A whole session at 1 kHz, with the simulator and its three cameras. The robot sways without end, so
that every tick has the same to do. `rt.record` records every other stretch of it, to a disk.
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

from rt.record.reading import Recording
from rt.session import Session
from rt.tail import Tail

HZ = 1000
SWAYING = (
    *("-P", "configs/policies/sway/policy.yaml", "--set", "episode_ticks=0"),
    *("--set", f"ticks_per_row={HZ // 20}"),
)
LOOK_S = 0.1  # the tick ring comes round in two seconds
SETTLE_S = 0.3  # a recording begins with a second of ticks from before it


class Stretch(NamedTuple):
    """What a stretch of time showed."""

    wake_us: NDArray[np.float64]  # (n,) how late each tick woke that executed a row
    work_us: NDArray[np.float64]  # (n,) how long its work took
    lost: int  # ticks that were due and skipped


class Cost(NamedTuple):
    """What a recorder took and what it wrote, in a second; and in all."""

    share: float  # of one core
    messages: float
    megabytes: float
    written: int  # messages
    lost: int  # records


class Recorder:
    """`rt.record` as its users start it, from when it has caught up."""

    def __init__(self, session: str, folder: Path) -> None:
        command = ["-m", "rt.record", "--session", session, "--to", str(folder)]
        self._process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        self._file: Path = until("a recording", lambda: next(folder.glob("*.mcap"), None))
        time.sleep(SETTLE_S)
        self._began_ns, self._used = time.time_ns(), self._cpu_s()

    def end(self) -> Cost:
        """Its figures; asked for before it finishes its file."""
        seconds = (time.time_ns() - self._began_ns) / 1e9
        share = (self._cpu_s() - self._used) / seconds
        self._process.terminate()
        assert self._process.wait(PATIENCE_S) == 0
        recording = Recording(self._file)
        assert not recording.problem, recording.problem
        with self._file.open("rb") as file:
            found = [(m.log_time, len(m.data)) for _, _, m in make_reader(file).iter_messages()]
        times, sizes = np.array(found).T
        now = times >= self._began_ns
        megabytes = self._file.stat().st_size / 1e6 * sizes[now].sum() / sizes.sum()
        lost = sum(recording.lost.values())
        return Cost(share, now.sum() / seconds, megabytes / seconds, len(found), lost)

    def _cpu_s(self) -> float:
        """Of all its threads, so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stretch(session: Session, seconds: float) -> Stretch:
    """What the session does in the next `seconds`."""
    with session.reader("tick") as ring:
        tail, found = Tail(ring), list[NDArray[Any]]()
        tail.seen = ring.head
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(LOOK_S)
            found.append(tail.new().copy())
        assert not tail.missed
    ticks = np.concatenate(found)
    lost = int(ticks["overruns"][-1] - ticks["overruns"][0])
    ticks = ticks[ticks["row"] >= 0]  # on a busy machine it holds now and then
    return Stretch(
        (ticks["t_wake"] - ticks["t_due"]) / 1e3,
        (ticks["t_done"] - ticks["t_wake"]) / 1e3,
        lost,
    )


def test_a_tick_is_the_same_beside_a_recorder(core: int, benchmark, long: bool) -> None:  # type: ignore[no-untyped-def]
    count, seconds = (11, 4.0) if long else (3, 1.0)
    pairs: list[tuple[Stretch, Stretch]] = []
    costs: list[Cost] = []

    with Launched("bench", *SWAYING) as run:
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
    cost = figures["recorder"]
    assert cost["lost"] <= cost["written"] / 1000, (
        f"{cost['lost']} records were lost: busy machine?"
    )
    for of in ("wake", "work"):
        judge(f"recording.{of}.p99", figures[of]["ratios"])


def figures_of(pairs: list[tuple[Stretch, Stretch]], costs: list[Cost]) -> dict[str, Any]:
    """For the page; of two values the first is beside the recorder."""
    medians = {name: statistics.median(getattr(c, name) for c in costs) for name in Cost._fields}
    return {
        "wake": compared(pairs, "wake_us"),
        "work": compared(pairs, "work_us"),
        "lost": [sum(pair[i].lost for pair in pairs) for i in (0, 1)],
        "recorder": medians
        | {of: sum(getattr(c, of) for c in costs) for of in ("written", "lost")},
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
    cost = figures["recorder"]
    report(
        "a recorder",
        f"{cost['share']:.1%} of a core for {cost['messages']:.0f} messages and "
        f"{cost['megabytes']:.2f} MB a second; {cost['lost']} records lost, "
        f"{cost['written']} messages written",
    )
