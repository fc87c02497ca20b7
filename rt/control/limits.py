"""What a command may be: within the position limits, and within one slew step of the last."""

from __future__ import annotations

import math

import numpy as np

from rt.arrays import Vector


def is_finite(vector: Vector) -> bool:
    """Whether every element is a finite number.

    One dot product: a NaN or an infinity survives it. It is five times faster than
    `isfinite(…).all()`, and calls elements beyond 1e154 infinite, which no joint minds.
    """
    return math.isfinite(vector.dot(vector))


class Limits:
    """Position and slew limits of all joints.

    Guarantees:
      - |command - last| <= max_delta for every joint, whatever the target.
      - lower <= command <= upper if `last` was; else command moves toward the limits, under slew.
      - A target inside both is sent bit for bit: comparing, not adding, does the limiting.
    """

    def __init__(self, lower: Vector, upper: Vector, max_delta: Vector) -> None:
        """`lower`, `upper` (A,) rad; `max_delta` (A,) rad per tick."""
        self.lower = lower
        self.upper = upper
        self.max_delta = max_delta
        self._low = np.empty_like(lower)
        self._high = np.empty_like(lower)

    def apply(self, target: Vector, last: Vector, out: Vector) -> int:
        """Write the limited `target` to `out`, all (A,) rad; returns how many joints changed.

        `target` must be finite: NaN compares as neither, and would pass.
        """
        np.maximum(target, self.lower, out=out)
        np.minimum(out, self.upper, out=out)
        np.subtract(last, self.max_delta, out=self._low)
        np.add(last, self.max_delta, out=self._high)
        np.maximum(out, self._low, out=out)
        np.minimum(out, self._high, out=out)
        return int(np.count_nonzero(out != target))
