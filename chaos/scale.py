"""How much is tried: --scale short (in `make test`), bounded (`make chaos`), full (`make soak`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How much of each."""

    reads: int  # of rings, under writers that never rest
    kills: int  # signals at random moments to random processes
    starts: int  # launches and stops
    soak_s: float  # a session left alone, beside the kills
    examples: int  # of each fuzzed input


SCALES = {
    "short": Scale(reads=300_000, kills=4, starts=2, soak_s=0, examples=40),
    "bounded": Scale(reads=10_000_000, kills=60, starts=10, soak_s=120, examples=400),
    "full": Scale(reads=100_000_000, kills=500, starts=100, soak_s=1800, examples=4000),
}
