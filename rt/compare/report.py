"""The results as CSV, as a table and as a plot."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rt.compare.metrics import Estimate
from rt.compare.points import HORIZON, S_MIN, VARIANTS, Result

MEASURES = {
    "success": "success",
    "seam_jump": "largest seam jump [m/s]",
    "second_difference": "largest second difference [m/s]",
    "rows_to_goal": "rows to the goal",
}
SHOWN = ("success", "seam_jump", "second_difference")  # in the table and the plot
COLOURS = {
    "sequential": "0.55",
    "naive": "tab:red",
    "blend": "tab:brown",
    "temporal_ensembling": "tab:orange",
    "rtc": "tab:blue",
    "rtc_hard_mask": "tab:cyan",
    "rtc_identity": "tab:purple",
    "prefix": "tab:green",
}
DASHED = ("rtc_hard_mask", "rtc_identity")
HAS_MATPLOTLIB = find_spec("matplotlib") is not None


def write_csv(results: Iterable[Result], path: Path) -> None:
    """One line a point; each measure with the ends of its 95 % interval."""
    header = ["variant", "delay", "episodes", "seed"]
    header += [name + end for name in MEASURES for end in ("", "_low", "_high")] + ["touched"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for result in results:
            values = [value for name in MEASURES for value in getattr(result, name)]
            numbers = [f"{value:.4f}" for value in (*values, result.touched)]
            writer.writerow([*result.point, *numbers])


def table(results: list[Result]) -> str:
    """The measures that are shown: a line for each variant, a column for each delay."""
    delays = sorted({result.point.delay for result in results})
    lines = []
    for name in SHOWN:
        head = "".join(f"{f'd={delay}':>7}" for delay in delays)
        lines += [f"{MEASURES[name]:<32}{head}"]
        for variant in VARIANTS:
            if found := dict(_line(results, variant, name)):
                cells = (f"{found[d].mean:>7.2f}" if d in found else " " * 7 for d in delays)
                lines.append(f"  {variant:<30}" + "".join(cells))
        lines.append("")
    return "\n".join(lines)


def plot(results: list[Result], path: Path) -> None:
    """The same over the delay, a panel for each measure, intervals shaded. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "rt"  # the same results draw the same file
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(SHOWN), figsize=(13, 4.6), layout="constrained")
    for panel, name in zip(panels, SHOWN, strict=True):
        for variant in VARIANTS:
            if line := _line(results, variant, name):
                _draw(panel, variant, line)
        panel.set_title(MEASURES[name], loc="left", fontsize=10)
        panel.set_xlabel("delay d [rows]")
        panel.grid(alpha=0.3)
        panel.set_ylim(0)
    panels[0].set_ylim(0, 1)
    first = results[0].point
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    figure.suptitle(
        f"A point robot past an obstacle, H = {HORIZON}, s ≥ {S_MIN}, {first.episodes} episodes a "
        "point, 95 % intervals",
        fontsize=11,
    )
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _line(results: list[Result], variant: str, name: str) -> list[tuple[int, Estimate]]:
    """One measure of one variant by delay, the shortest first."""
    return sorted((r.point.delay, getattr(r, name)) for r in results if r.point.variant == variant)


def _draw(panel: Any, variant: str, line: list[tuple[int, Estimate]]) -> None:
    delays = [delay for delay, _ in line]
    mean, low, high = zip(*(estimate for _, estimate in line), strict=True)
    style = "--" if variant in DASHED else "-"
    colour, label = COLOURS[variant], variant.replace("_", " ")
    panel.plot(delays, mean, style, marker="o", ms=3, color=colour, label=label)
    panel.fill_between(delays, low, high, color=colour, alpha=0.12, lw=0)
