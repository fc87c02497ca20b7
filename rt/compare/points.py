"""What the figure is made of: its lines, its axis, and a point's result. Knows no torch."""

from __future__ import annotations

from typing import Any, NamedTuple

from rt.compare.metrics import Estimate

HORIZON = 16
S_MIN = 4
EVALUATION_SEED = 2_000_000  # and up; training, and choosing the world, used smaller ones

VARIANTS: dict[str, dict[str, Any]] = {
    "sequential": {"algorithm": "sequential"},
    "naive": {"algorithm": "naive"},
    "blend": {"algorithm": "blend"},
    "temporal_ensembling": {"algorithm": "temporal_ensembling"},
    "rtc": {"algorithm": "rtc"},
    "rtc_hard_mask": {"algorithm": "rtc", "schedule": "zeros"},
    "rtc_identity": {"algorithm": "rtc", "vjp": False},
    "prefix": {"algorithm": "prefix"},
}
"""What each line sets: the six modes, and `rtc` with one of its two parts left out."""


class Point(NamedTuple):
    """What is to be run."""

    variant: str  # of VARIANTS
    delay: int  # d, rows
    episodes: int
    seed: int


class Result(NamedTuple):
    """What came of it. Velocities in m/s."""

    point: Point
    success: Estimate  # Wilson's interval
    seam_jump: Estimate  # the largest of an episode, from the old chunk to the new
    second_difference: Estimate  # the largest of an episode
    rows_to_goal: Estimate  # of the successful episodes
    touched: float  # share of episodes; the rest ran out of time
