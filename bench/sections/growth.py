"""How cost grows with the robot, the chunk and the cameras."""

from __future__ import annotations

from results import table

from sections.drawing import COLOURS, panels, save

# Over what, what, size: p50 and p99 in us.
Figures = dict[str, dict[str, dict[str, list[float]]]]
AXES = {"joints": "joints", "rows": "rows of a chunk (H)", "cameras": "cameras, 320x240"}
COSTS = {
    "ticks": "a tick",
    "swaps": "a tick that takes a new chunk",
    "observations": "inference's observation",
}


def text(figures: Figures) -> str:
    """What the largest costs beside the smallest, and the lines between."""
    plot(figures)
    rows: list[tuple[object, ...]] = []
    for of, axis in AXES.items():
        for what, name in COSTS.items():
            if sizes := figures[of].get(what):
                small, *_, large = sizes
                p50s = [sizes[size][0] for size in (small, large)]
                growth = f"{round(p50s[1] - p50s[0], 1) + 0:+.1f} µs, {p50s[1] / p50s[0]:.2f}×"
                rows.append((axis, name, _cost(small, sizes), _cost(large, sizes), growth))
    head = ("Over", "What", "Smallest: p50 / p99 µs", "Largest: p50 / p99 µs", "p50 grows by")
    return f"""## How cost grows

The real control loop and rings, ticks back to back, with SCHED_FIFO: 24 joints, 50 rows and no
camera where nothing else is said, and 50 ticks to a row, so that they interpolate. All by turns;
each cost is that of the first, times the median of its ratio to it within the rounds. Control reads
no frames: what cameras cost is inference's, whose observation copies each one's newest frame once.

{table(head, rows)}

![Cost over joints, rows and cameras](benchmarks/growth.svg)"""


def _cost(size: str, sizes: dict[str, list[float]]) -> str:
    p50, p99 = sizes[size]
    return f"{size}: {p50:.1f} / {p99:.1f}"


def plot(figures: Figures) -> None:
    """p50 as lines, p99 dashed, one panel for each axis."""
    figure, axes = panels(len(AXES))
    for panel, (of, axis) in zip(axes, AXES.items(), strict=True):
        for (what, name), colour in zip(COSTS.items(), COLOURS, strict=False):
            if sizes := figures[of].get(what):
                at = [int(size) for size in sizes]
                p50, p99 = zip(*sizes.values(), strict=True)
                panel.plot(at, p50, "o-", color=colour, markersize=3, label=name)
                panel.plot(at, p99, "--", color=colour, linewidth=0.8)
        panel.set_xlabel(axis)
        panel.set_ylim(bottom=0)
    axes[0].set_ylabel("µs (p50; dashed: p99)")
    axes[-1].legend(frameon=False, fontsize=7)
    save(figure, "growth")
