"""An acceleration bound: a jump becomes a ramp that ends where it was told to, and not beyond."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rt.arrays import Vector

ROUNDING = 1e-9  # of the bound: far more than floats lose on a ramp


class Ramp:
    """How fast each joint goes, and how fast it may go next.

    Per joint, with r the way that is left and a the bound: n is the least number of ticks with
    n (n + 1) / 2 · a ≥ r, and r / n + (n - 1) / 2 · a the largest step after which steps that
    shrink by a still end at the target. The step taken is that, within a of the step before.

    Guarantees:
      - |step - step before| <= a, to a rounding.
      - From rest, a target that stands still is reached exactly and never passed.
    """

    def __init__(self, max_acceleration: Vector, max_delta: Vector) -> None:
        """`max_acceleration` (A,) rad per tick per tick, inf: no bound; `max_delta` (A,) rad per
        tick, what the slew limit allows."""
        # Twice the slew limit turns any step into any other: as good as inf, and finite.
        self._bound = np.minimum(max_acceleration, 2 * max_delta)
        self.step = np.zeros_like(max_delta)  # of the last command really sent
        self._half = self._bound / 2
        self._reach = self._bound * (1 + ROUNDING)
        self._left = np.empty_like(max_delta)
        self._size = np.empty_like(max_delta)
        self._ticks = np.empty_like(max_delta)
        self._low = np.empty_like(max_delta)
        self._high = np.empty_like(max_delta)

    @property
    def moving(self) -> bool:
        """Whether the last command was another than the one before."""
        return bool(self.step.any())

    def apply(self, point: Vector, last: Vector, speed: Vector) -> None:
        """Put into `point`, the target (A,) rad, where the command may go from `last` on the way
        there, at most `speed` (A,) rad per tick."""
        left, size, ticks, bound = self._left, self._size, self._ticks, self._bound
        np.subtract(point, last, out=left)
        np.abs(left, out=size)
        np.divide(size, self._half, out=ticks)  # n = ceil(sqrt(2 r / a + 1/4) - 1/2), at least 1
        np.add(ticks, 0.25, out=ticks)
        np.sqrt(ticks, out=ticks)
        np.subtract(ticks, 0.5 + ROUNDING, out=ticks)
        np.ceil(ticks, out=ticks)
        np.maximum(ticks, 1, out=ticks)
        np.divide(size, ticks, out=size)
        np.subtract(ticks, 1, out=ticks)
        np.multiply(ticks, self._half, out=ticks)
        np.add(size, ticks, out=size)
        np.minimum(size, speed, out=size)
        np.copysign(size, left, out=size)
        np.subtract(self.step, bound, out=self._low)
        np.add(self.step, bound, out=self._high)
        np.maximum(size, self._low, out=size)
        np.minimum(size, self._high, out=size)
        np.add(last, size, out=size)
        # The last step lands on the target itself, not a rounding beside it.
        np.copyto(point, size, where=~self._lands(left, speed))

    def _lands(self, left: Vector, speed: Vector) -> NDArray[np.bool_]:
        """Which joints reach their target with this step, and may stop there."""
        may_stop = np.abs(left) <= np.minimum(self._reach, speed)
        return may_stop & (np.abs(left - self.step) <= self._reach)

    def took(self, last: Vector, command: Vector) -> None:
        """`command` was really sent after `last`."""
        np.subtract(command, last, out=self.step)

    def stopped(self) -> None:
        """Nothing was sent: the robot stays at its last command."""
        self.step.fill(0.0)
