"""Whole chunks of a network of π0.5's shapes, where there is a CUDA device."""

from __future__ import annotations

from typing import Any

from results import table

from sections.words import ratio

STEPS = (5, 10)


def text(figures: dict[str, Any]) -> str:
    """What a GPU gave; without one, that there was none."""
    return f"""## π0.5's shapes

`bench/test_pi05.py` builds a network of π0.5's published sizes with random weights (three 224×224
images through 27 layers of SigLIP's width, 968 prefix tokens through a Gemma of 2 B weights, a
311 M expert of 18 layers with adaRMS, H = 50, 32 joints) and times the flow policy with it: a whole
chunk from images in pinned memory to an array of actions, and the denoising loop eager, compiled,
recorded as a CUDA graph, and both, for n = 5 and 10, in bfloat16. Published for an RTX 4090 and
n = 5: 76 ms a chunk, guided 97 ms, 1.28 times (arXiv 2506.07339).

{_measured(figures) if figures["gpu"] else NOT_MEASURED}"""


NOT_MEASURED = """**Not measured: no GPU.** The tests that need one were skipped, and their budgets
are not among those above. `make bench` measures it wherever there is one."""


def _measured(figures: dict[str, Any]) -> str:
    rows: list[tuple[object, ...]] = []
    for steps in STEPS:
        if chunk := figures.get(f"chunk n={steps}"):
            rows.append((f"a whole chunk, n = {steps}", *_compared(chunk["guided"])))
        if denoise := figures.get(f"denoise n={steps}"):
            rows += [
                (f"denoising, n = {steps}, {way}", *_compared(cost))
                for way, cost in denoise["costs"].items()
            ]
    head = (figures["gpu"], "Unguided", "Guided", "Guided / unguided")
    parts = [
        f"n = {steps}: "
        + ", ".join(f"{part} {ms:.1f} ms" for part, ms in chunk["parts_ms"].items())
        for steps in STEPS
        if (chunk := figures.get(f"chunk n={steps}"))
    ]
    return f"{table(head, rows)}\n\nOf an unguided chunk, {'; '.join(parts)}."


def _compared(found: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{found['peer_us'] / 1e3:.1f} ms",
        f"{found['ours_us'] / 1e3:.1f} ms",
        ratio(found["pairs"]),
    )
