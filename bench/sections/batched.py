"""What a batch of several robots' chunks gains."""

from __future__ import annotations

import statistics
from typing import Any

from results import table

from sections.drawing import COLOURS, panels, save
from sections.words import ratio

NETWORKS = {"demo": "demonstration policy", "transformer": "transformer like π0.5's"}
WAYS = ("unguided", "guided")


def text(figures: dict[str, Any]) -> str:
    """Chunks a second by the size of a batch, guided and unguided, and beside one at a time."""
    cases = [
        (network, way, int(size), gain)
        for network in NETWORKS
        for way in WAYS
        for size, gain in figures.get(network, {}).get(way, {}).items()
    ]
    draw(cases)
    rows: list[tuple[object, ...]] = [
        (
            *(NETWORKS[network], way, size),
            *(f"{per_second(size, gain[f'{side}_us']):.1f}" for side in ("ours", "peer")),
            ratio(gain["pairs"]),
        )
        for network, way, size, gain in cases
    ]
    head = (figures["device"], "", "Robots", "Chunks/s one at a time", "Together", "Gain")
    return f"""## Several robots in one forward

`FlowPolicy.infer_many`, from each robot's arrays to its array of actions, beside a call for each,
by turns; n = 5. Every robot has its own state, images, leftover, d and s. The gain is how many
times as many chunks a second come of it. On a GPU the loop is recorded, in bfloat16, and the
transformer has π0.5's shapes; on a CPU it has their proportions, and 8 M weights.

{table(head, rows)}

A batch of small matrices costs little more than one of them, because what is spent between them
is spent once; large ones, which keep the device busy by themselves, gain less.

![The gain over the size of a batch](benchmarks/batched.svg)"""


def per_second(count: int, took_us: float) -> float:
    """Chunks a second."""
    return 1e6 * count / took_us


def draw(cases: list[tuple[str, str, int, dict[str, Any]]]) -> None:
    """The gain over the size, a panel for each network."""
    figure, axes = panels(len(NETWORKS))
    for panel, (network, name) in zip(axes, NETWORKS.items(), strict=True):
        for way, colour in zip(WAYS, COLOURS, strict=False):
            points = [
                (size, statistics.median(gain["pairs"]))
                for n, w, size, gain in cases
                if (n, w) == (network, way)
            ]
            panel.plot(*zip(*points, strict=True), "o-", color=colour, label=way, ms=4)
        panel.axhline(1.0, color="0.8", lw=1, zorder=0)
        panel.set_xscale("log", base=2)
        panel.set_ylim(bottom=0)
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("robots in a batch")
        panel.xaxis.set_major_formatter("{x:.0f}")
    axes[0].set_ylabel("times the chunks/s of one at a time")
    axes[0].legend(frameon=False)
    save(figure, "batched")
