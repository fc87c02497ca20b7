"""What an episode is judged by, and how sure we are of it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt.compare.world import Bools

Z = 1.959964  # of a 95 % interval


class Estimate(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def wilson(successes: int, episodes: int) -> Estimate:
    """A share and Wilson's score interval of it; (nan, 0, 1) of nothing."""
    if not episodes:
        return Estimate(math.nan, 0.0, 1.0)
    share = successes / episodes
    middle = share + Z**2 / (2 * episodes)
    half = Z * math.sqrt(share * (1 - share) / episodes + (Z / (2 * episodes)) ** 2)
    scale = 1 + Z**2 / episodes
    return Estimate(share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def average(values: NDArray[Any]) -> Estimate:
    """The mean of one number per episode and its normal interval, nan for want of two numbers."""
    mean = float(values.mean()) if len(values) else math.nan
    half = math.nan
    if len(values) > 1:
        half = Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def largest_jump(
    velocities: NDArray[np.float64], going: Bools, at: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(B,) m/s: each episode's largest step from one row to the next, into the rows `at` (T,).

    velocities (T, B, 2); going (T, B), false once an episode is over. 0 if there is none.
    """
    jumps = np.linalg.norm(np.diff(velocities, axis=0), axis=2)
    return _largest(jumps, going[1:] & at[1:, None])


def largest_second_difference(velocities: NDArray[np.float64], going: Bools) -> NDArray[np.float64]:
    """(B,) m/s: each episode's largest |a[t+1] − 2 a[t] + a[t−1]|; see `largest_jump`."""
    bends = np.linalg.norm(np.diff(velocities, n=2, axis=0), axis=2)
    return _largest(bends, going[2:])


def _largest(values: NDArray[np.float64], where: Bools) -> NDArray[np.float64]:
    largest: NDArray[np.float64] = np.where(where, values, 0.0).max(axis=0, initial=0.0)
    return largest
