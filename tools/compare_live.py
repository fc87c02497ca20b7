"""What a slow policy does to a run, mode by mode: real processes, the simulated IGRIS_B.

`python tools/compare_live.py` (needs the extra [sim]; about 20 minutes): every mode under every
injected delay has the same scenes to do. Writes docs/compare_live.csv and prints it as a table.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from rt.compare.metrics import wilson
from rt.config.schema import Algorithm
from rt.follow import launched
from rt.records import Phase

DOCS = Path(__file__).parents[1] / "docs"
PERIOD_S = 0.05
LOOK_S = 2.0


class Episode(NamedTuple):
    """One finished episode, from its first executed row to the target or the time-out."""

    success: bool
    seconds: float
    standing_s: float  # held, or not even ticked because sequential mode was planning
    jerk: float  # root mean square over joints and ticks, rad/s³
    seam_deg: float  # largest change of a command at a change of chunk


def episodes(ticks: NDArray[Any]) -> Iterator[Episode]:
    """Of all tick records of a run, those episodes that it saw begin and end."""
    for number in np.unique(ticks["episode"])[:-1]:
        ran = ticks[(ticks["episode"] == number) & (ticks["phase"] == Phase.RUN)]
        after = ticks[ticks["episode"] > number][0]
        if np.any(ran["row"] >= 0):
            success = after["successes"] > ran["successes"][0]  # counted as the episode ends
            yield _measured(ran[(ran["row"] >= 0).argmax() :], success=bool(success))


def _measured(ran: NDArray[Any], *, success: bool) -> Episode:
    tick = ran["tick"] - ran["tick"][0]
    # The robot keeps its command through a tick that was skipped.
    commands = ran["command"][np.searchsorted(tick, np.arange(tick[-1] + 1), side="right") - 1]
    jerk = np.diff(commands, n=3, axis=0) / PERIOD_S**3
    jumps = np.abs(np.diff(ran["command"], axis=0)).max(axis=1)
    seams = jumps[np.diff(ran["chunk"]) != 0]
    executed = int(np.sum(ran["row"] >= 0))
    return Episode(
        success=success,
        seconds=float(tick[-1] * PERIOD_S),
        standing_s=(len(commands) - executed) * PERIOD_S,
        jerk=float(np.sqrt(np.mean(jerk**2))) if len(jerk) else 0.0,
        seam_deg=float(np.rad2deg(seams.max())) if len(seams) else 0.0,
    )


def measure(mode: str, delay_ms: int, count: int) -> dict[str, Any]:
    """The first `count` episodes of one run: medians, and Wilson's 95 % interval of success."""
    flags = ("--inference_algorithm", mode, "--inject_delay_ms", str(delay_ms))
    with launched(*flags, "--set", "params.policy_update_period=25") as run:
        while len(seen := list(episodes(run.follow(LOOK_S)))) < count:
            pass
        counted = [int(c["previous_d_counted"]) for c in run.published.values()]
    seen = seen[:count]
    success = wilson(sum(e.success for e in seen), count)

    def median(values: list[float], digits: int) -> float:
        return round(float(np.median(values)), digits)

    return {
        "mode": mode,
        "injected_ms": delay_ms,
        "d_counted": median([d for d in counted if d >= 0] or [0], 0),
        "success": round(success.mean, 2),
        "low": round(success.low, 2),
        "high": round(success.high, 2),
        "seconds": median([e.seconds for e in seen], 2),
        "standing_s": median([e.standing_s for e in seen], 2),
        "jerk_rad_s3": median([e.jerk for e in seen], 1),
        "seam_deg": median([e.seam_deg for e in seen], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delays_ms", type=int, nargs="+", default=[0, 100, 200, 300])
    parser.add_argument(
        "--modes", nargs="+", choices=get_args(Algorithm), default=["sequential", "naive", "rtc"]
    )
    parser.add_argument("--episodes", type=int, default=16, help="of each run")
    parser.add_argument("--out", type=Path, default=DOCS / "compare_live.csv")
    args = parser.parse_args()
    rows = []
    for delay_ms in args.delays_ms:
        for mode in args.modes:
            print(f"{mode}, {delay_ms} ms", end="\r", file=sys.stderr, flush=True)
            rows.append(measure(mode, delay_ms, args.episodes))
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")


if __name__ == "__main__":
    main()
