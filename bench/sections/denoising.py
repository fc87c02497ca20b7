"""What guidance costs in the denoising loop."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import draw_pairs
from sections.words import ratio

NETWORKS = {
    "demo": "demonstration policy",
    "transformer": "transformer of π0.5's proportions, 8 M weights",
}
WAYS = ("eager", "compiled")
KINDS = {"guided": "guided", "identity": "identity Jacobian"}


def text(figures: dict[str, Any]) -> str:
    """Guided and with the identity for the Jacobian, beside unguided."""
    cases = [
        (network, way, figures[f"{network} {way}"])
        for network in NETWORKS
        for way in WAYS
        if f"{network} {way}" in figures
    ]
    lines = {
        f"{network}, {way}": {label: case[kind]["pairs"] for kind, label in KINDS.items()}
        for network, way, case in cases
    }
    draw_pairs("denoising", lines, "times unguided")
    rows: list[tuple[object, ...]] = [
        (
            *(NETWORKS[network], way),
            *(f"{case['guided'][f'{side}_us'] / 1e3:.1f} ms" for side in ("peer", "ours")),
            *(ratio(case[kind]["pairs"]) for kind in KINDS),
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
  whole loop took many times as long. It is kept in `$XDG_CACHE_HOME/rt/compiled` (by default
  `~/.cache/rt/compiled`, safe to delete; `TORCHINDUCTOR_CACHE_DIR` overrides it), so that only the
  first start waits, a minute or two for the demonstration policy.
- Found on 2026-11-21: two threads brought the demonstration policy's network nothing, and cost it
  many times the time where another process had one of the cores: they wait for each other at every
  layer. The benchmark therefore takes one.

![Every pair's ratio](benchmarks/denoising.svg)"""
