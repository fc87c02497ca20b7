"""What guidance costs in the denoising loop."""

from __future__ import annotations

import statistics
from typing import Any

from proof import table

from sections.drawing import COLOURS, panels, save
from sections.words import ratio

NETWORKS = {
    "demo": "demonstration policy",
    "transformer": "transformer of π0.5's proportions, 8 M weights",
}
WAYS = ("eager", "compiled")


def text(figures: dict[str, Any]) -> str:
    """Guided and with the identity for the Jacobian, beside unguided."""
    cases = [
        (network, way, figures[f"{network} {way}"])
        for network in NETWORKS
        for way in WAYS
        if f"{network} {way}" in figures
    ]
    _draw(cases)
    rows: list[tuple[object, ...]] = [
        (
            *(NETWORKS[network], way),
            *(f"{case['guided'][f'{side}_us'] / 1e3:.1f} ms" for side in ("peer", "ours")),
            *(ratio(case[kind]["pairs"]) for kind in ("guided", "identity")),
        )
        for network, way, case in cases
    ]
    head = ("Network", "", "Unguided", "Guided", "Guided / unguided", "Identity / unguided")
    return f"""## Denoising

The loop guided (RTC), with the identity for the Jacobian, and unguided, by turns; n = 5, one
thread. `compile` is a key of the policy YAML.

{table(head, rows)}

A forward and a backward by x alone are 2.0 times a forward's multiplications; a network whose
conditioning does not depend on x (FiLM of the time and the observation) need not go back through it
and takes less. Eager, the bookkeeping of torch.func and autograd comes on top, and small matrices
do not hide it. The published loop, of π0.5 on a GPU, takes 2.5 times as long guided (arXiv
2506.07339).

- One step is compiled, guided and unguided, and run n times; found on 2026-11-21: compiling the
  whole loop took eleven times as long. It is kept in `$XDG_CACHE_HOME/rt/compiled` (by default
  `~/.cache/rt/compiled`, safe to delete; `TORCHINDUCTOR_CACHE_DIR` overrides it), so that only the
  first start waits, a minute or two for the demonstration policy.
- Found on 2026-11-21: two threads brought the demonstration policy's network nothing, and cost it
  ten times the time where another process had one of the cores: they wait for each other at every
  layer. The benchmark therefore takes one.

![Every pair's ratio](benchmarks/denoising.svg)"""


def _draw(cases: list[tuple[str, str, Any]]) -> None:
    figure, (panel,) = panels(1, height=1.0 + 0.45 * len(cases))
    for place, (_, _, case) in enumerate(cases):
        for kind, colour in zip(("guided", "identity"), COLOURS, strict=False):
            ratios = case[kind]["pairs"]
            label = {"guided": "guided", "identity": "identity Jacobian"}[kind]
            style = {"color": colour, "alpha": 0.3, "mec": "none"}
            panel.plot(ratios, [place] * len(ratios), "o", label=None if place else label, **style)
            panel.plot(statistics.median(ratios), place, "|", color=colour, ms=16, mew=2)
    panel.axvline(1.0, color="0.8", lw=1, zorder=0)
    panel.set_yticks(range(len(cases)), [f"{network}, {way}" for network, way, _ in cases])
    panel.set_ylim(len(cases) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.set_xlabel("times unguided: each pair (dots), and their median (lines)")
    panel.legend(frameon=False)
    save(figure, "denoising")
