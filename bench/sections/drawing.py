"""How the plots look: small, calm, on white, the same file for the same figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import benchmarks
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = ("#4477aa", "#ee8866", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#332288")


def panels(count: int, *, width: float = 8.0, height: float = 2.8) -> tuple[Any, list[Any]]:
    """A figure with `count` panels side by side."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "rt", "font.size": 9})
    figure, axes = plt.subplots(1, count, figsize=(width, height), layout="constrained")
    axes = list(axes) if count > 1 else [axes]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_pairs(name: str, lines: Mapping[str, Mapping[str, Sequence[float]]], of: str) -> None:
    """Each pair's ratio as a dot, and their median as a stroke. lines: line → kind → ratios; the
    legend tells the kinds that have a name."""
    figure, (panel,) = panels(1, height=1.0 + 0.5 * len(lines))
    for place, kinds in enumerate(lines.values()):
        for (kind, ratios), colour in zip(kinds.items(), COLOURS, strict=False):
            style = {"color": colour, "alpha": 0.3, "mec": "none"}
            label = None if place else kind
            panel.plot(ratios, [place] * len(ratios), "o", label=label, **style)
            panel.plot(statistics.median(ratios), place, "|", color=colour, ms=16, mew=2)
    panel.axvline(1.0, color="0.8", lw=1, zorder=0)
    panel.set_yticks(range(len(lines)), list(lines))
    panel.set_ylim(len(lines) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.set_xlabel(f"{of}: each pair (dots), and their median (strokes)")
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False)
    save(figure, name)


def save(figure: Any, name: str) -> None:
    """Into the page's folder; the figure is closed."""
    figure.savefig(benchmarks.PLOTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
