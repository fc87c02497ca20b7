"""What a command may be: within the position limits, and within one slew step of the last."""

from __future__ import annotations

import math

import numpy as np

from rt.arrays import Vector
from rt.control.ramp import Ramp


def is_finite(vector: Vector) -> bool:
    """Whether every element is a finite number.

    One dot product: a NaN or an infinity survives it. It is five times faster than
    `isfinite(…).all()`, and calls elements beyond 1e154 infinite, which no joint minds.
    """
    return math.isfinite(vector.dot(vector))


class Limits:
    """Position, slew and acceleration limits of all joints.

    Guarantees:
      - |command - last| <= max_delta for every joint, whatever the target.
      - lower <= command <= upper if `last` was; else command moves toward the limits, under slew.
      - Where no group has an acceleration bound, a target inside both is sent bit for bit:
        comparing, not adding, does the limiting.
      - The acceleration bound comes last: it never lets a command leave the other two.
    """

    def __init__(
        self,
        lower: Vector,
        upper: Vector,
        max_delta: Vector,
        max_acceleration: Vector | None = None,
    ) -> None:
        """`lower`, `upper` (A,) rad; `max_delta` (A,) rad per tick; `max_acceleration` (A,) rad
        per tick per tick, inf where a joint has no bound."""
        self.lower = lower
        self.upper = upper
        self.max_delta = max_delta
        self._ramp: Ramp | None = None  # which costs nothing where nothing is bounded
        if max_acceleration is not None and np.isfinite(max_acceleration).any():
            self._ramp = Ramp(max_acceleration, max_delta)
        self._low = np.empty_like(lower)
        self._high = np.empty_like(lower)

    @property
    def moving(self) -> bool:
        """Whether a joint may not stop at once: a hold then brakes first."""
        return self._ramp is not None and self._ramp.moving

    def apply(self, target: Vector, last: Vector, out: Vector, speed: Vector | None = None) -> int:
        """Write the limited `target` to `out`, all (A,) rad; returns how many joints changed.

        `target` must be finite: NaN compares as neither, and would pass. `speed` (A,) rad per
        tick: slower than `max_delta`.
        """
        np.maximum(target, self.lower, out=out)
        np.minimum(out, self.upper, out=out)
        step = self.max_delta if speed is None else speed
        if self._ramp is not None:
            self._ramp.apply(out, last, step)
            np.maximum(out, self.lower, out=out)
            np.minimum(out, self.upper, out=out)
            step = self.max_delta  # braking to a lower speed takes its time
        np.subtract(last, step, out=self._low)
        np.add(last, step, out=self._high)
        np.maximum(out, self._low, out=out)
        np.minimum(out, self._high, out=out)
        return int(np.count_nonzero(out != target))

    def sent(self, command: Vector, last: Vector) -> None:
        """`command` really went to the robot, after `last`."""
        if self._ramp is not None:
            self._ramp.took(last, command)

    def not_sent(self) -> None:
        """The robot stays at its last command: the next one starts from rest."""
        if self._ramp is not None:
            self._ramp.stopped()
