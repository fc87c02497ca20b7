"""From a chunk's publication to the tick that uses it. Control looks at the ring at every tick, so
publication is the swap; there is nothing to hand over.

At 1 kHz: the real control process, and this one in the place of inference and of the robot: it
publishes chunks at random moments, unsynchronised with control. At 20 Hz: a whole session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from feed import session_for
from publishing import play
from results import keep, report
from swaps import find_swaps
from watching import watch

from rt.config import Config
from rt.config.load import load_config
from rt.cores import divide
from rt.launcher.options import parse
from rt.records import STATUS, Hold
from rt.session import Session, ring_table

MEAN_GAP_S = 0.005
TICKS = 8192  # 8 s: on a busy machine this process may not be run for long
COMMIT_NS = 1_000_000  # what inference may take from its stamp to the commit


@pytest.fixture
def config() -> Config:
    """IGRIS_B at 1 kHz, of which the policy's rows are 50 ticks; one episode without an end."""
    settings = ["--set", "ticks_per_row=50", "--set", "episode_ticks=0"]
    config = load_config(parse(["--robot", "igris_b", *settings])).config
    run = msgspec.structs.replace(config.run, control_core=divide("last").control)
    return msgspec.structs.replace(config, run=run)


@pytest.fixture
def session(config: Config) -> Iterator[Session]:
    dtype, _ = ring_table(config)["tick"]
    others = {"tick": (dtype, TICKS), "status.control": (STATUS, 4)}
    with session_for("swap", config, **others) as session:
        yield session


def test_no_chunk_is_used_later_than_by_the_first_tick_after_it(  # type: ignore[no-untyped-def]
    config: Config, session: Session, benchmark, long: bool
) -> None:
    """Nor lost, nor twice: what was not used was superseded, by one still newer at that tick."""
    count = 10_000 if long else 300
    ticks, published = benchmark.pedantic(play, (config, session, count, MEAN_GAP_S), rounds=1)
    found = find_swaps(ticks[ticks["row"] >= 0], *published.T)
    figures = found.figures(config.period_ns)
    held = Counter(Hold(hold).name for hold in ticks["hold"] if hold != Hold.NONE)
    keep("swap", fast=figures | {"held": dict(held), "mean_gap_ms": 1e3 * MEAN_GAP_S})
    tell(f"swap at 1 kHz, chunks every {1e3 * MEAN_GAP_S:.0f} ms at random", figures)
    assert len(found.wait) >= count
    assert (found.late, found.lost, found.again) == (0, 0, 0)
    assert found.spare.min() >= 0
    # What is late is told from ticks that execute: with a chunk at hand none may hold instead.
    assert held.keys() <= {"NO_STATE", "EXPIRED"}, held  # while this process was not run


def test_a_session_uses_a_chunk_within_one_period(benchmark, long: bool) -> None:  # type: ignore[no-untyped-def]
    """Warm chunks: a cold one says itself at which tick it begins."""
    seen = benchmark.pedantic(watch, (45.0 if long else 8.0,), rounds=1)
    period_ns = 50_000_000
    executing = seen.ticks[seen.ticks["row"] >= 0]
    within = range(int(executing["chunk"][0]) + 1, int(executing["chunk"][-1]) + 1)
    warm = [i for i in within if i in seen.chunks and not seen.chunks[i]["cold"]]
    t_publish = np.array([int(seen.chunks[i]["t_publish"]) for i in warm])
    found = find_swaps(executing, np.array(warm), t_publish, t_publish + COMMIT_NS)
    delays = delays_of(executing, {i: seen.chunks[i] for i in warm})
    figures = found.figures(period_ns)
    keep("swap", session=figures | {"delays": delays})
    tell("swap in a session at 20 Hz", figures)
    assert seen.missed == 0
    assert len(found.wait) >= 5
    assert (found.late, found.lost, found.again) == (0, 0, 0)
    assert found.spare.min() >= 0


def delays_of(ticks: Any, chunks: dict[int, Any]) -> list[tuple[int, int]]:
    """(ticks from a chunk's observation to its first use, how many chunks), ascending."""
    used = {int(t["chunk"]): int(t["chunk_first_used_tick"]) for t in ticks}
    delays = [used[i] - int(chunk["obs_tick"]) for i, chunk in chunks.items() if i in used]
    return sorted(Counter(delays).items())


def tell(what: str, f: dict[str, Any]) -> None:
    """Have the figures printed at the end of the run."""
    report(
        what,
        f"{f['used']} of {f['published']} chunks used, {f['superseded']} superseded, {f['late']} "
        f"late, {f['lost']} lost; publication to the first tick that uses it p50 "
        f"{f['p50_ms']:.2f}, p99 {f['p99_ms']:.2f}, max {f['max_ms']:.2f} ms ("
        f"{f['longest']['skipped']} ticks skipped) of a {f['period_ms']:.0f} ms period",
    )
