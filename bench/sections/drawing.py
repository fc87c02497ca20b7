"""How the plots look: small, calm, on white, the same file for the same figures."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import page

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


def save(figure: Any, name: str) -> None:
    """Into the page's folder; the figure is closed."""
    figure.savefig(page.PLOTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
