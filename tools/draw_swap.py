"""Draw docs/swap.png from real runs: what was planned, what was executed, with a slow policy.

`python tools/draw_swap.py` (needs the extras [sim,viz]). Above: rtc. Below: sequential.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from rt.follow import launched
from rt.records import Hold, Phase

mpl.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
PERIOD_S = 0.05


def record(algorithm: str, delay_ms: int, seconds: float) -> tuple[NDArray[Any], dict[int, Any]]:
    """All tick records, and every chunk by its ring index, of one run."""
    with launched(
        *("--inference_algorithm", algorithm, "--inject_delay_ms", str(delay_ms)),
        *("--set", "params.policy_update_period=25"),
    ) as run:
        return run.follow(seconds), run.published


def most_moved(ticks: NDArray[Any]) -> int:
    """The joint with the most to show."""
    return int(np.ptp(ticks["command"], axis=0).argmax())


def draw(axes: Any, ticks: NDArray[Any], chunks: dict[int, Any], title: str) -> None:
    """Planned rows thin, the command bold, standstill shaded; the first episode only."""
    ticks = ticks[(ticks["episode"] == 1) & (ticks["phase"] == Phase.RUN)]
    begin = int(ticks["tick"][(ticks["row"] >= 0).argmax()])
    joint = most_moved(ticks)
    for index, chunk in chunks.items():
        if int(chunk["episode"]) != 1:
            continue
        rows = np.arange(len(chunk["actions"]))
        t = (int(chunk["first_tick"]) + rows - begin) * PERIOD_S
        line = axes.plot(t, np.rad2deg(chunk["actions"][:, joint]), lw=1, alpha=0.55)[0]
        used = ticks[ticks["chunk"] == index]
        if len(used) and used["chunk_first_used_tick"][-1] >= 0:
            swap = int(used["chunk_first_used_tick"][-1])
            at = (ticks["tick"] == swap).argmax()
            place = (swap - begin) * PERIOD_S
            axes.plot(place, np.rad2deg(ticks["command"][at, joint]), "o", color=line.get_color())
    t = (ticks["tick"] - begin) * PERIOD_S
    axes.plot(t, np.rad2deg(ticks["command"][:, joint]), "k", lw=2, label="commanded")
    # Held ticks, and those that sequential mode never ran because it was planning.
    executed = t[ticks["hold"] == Hold.NONE]
    for start, end in itertools.pairwise(executed):
        if end - start > 1.5 * PERIOD_S:
            axes.axvspan(start, end, color="tab:red", alpha=0.15)
    axes.set_ylabel(f"joint {joint}, degrees")
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(loc="lower right", fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay_ms", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--out", type=Path, default=DOCS / "swap.png")
    args = parser.parse_args()
    figure, panels = plt.subplots(2, sharex=True, figsize=(9, 6), layout="constrained")
    for axes, algorithm in zip(panels, ("rtc", "sequential"), strict=True):
        ticks, chunks = record(algorithm, args.delay_ms, args.seconds)
        what = f"{algorithm}, inference slowed by {args.delay_ms} ms"
        draw(axes, ticks, chunks, f"{what}: chunks as planned (thin), swaps (dots), command (bold)")
    panels[-1].set_xlabel("seconds since the first executed row")
    panels[-1].set_xlim(-0.1, 4.5)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
