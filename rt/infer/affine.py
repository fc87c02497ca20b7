"""One scaling along the last axis, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from rt.arrays import Vector
from rt.errors import ConfigError, PolicyError, RtError

Scaling = Literal["z-score", "quantile", "min-max"]
X = TypeVar("X")  # a numpy array or a torch tensor (..., dims) of floats


@dataclass(frozen=True)
class Affine:
    """x → (x − offset) / scale + shift and back, along the last axis.

    Keeps type, dtype and device. The shift is no part of the offset, because there it would be lost
    in float32's rounding where the scale is tiny.
    """

    offset: Vector  # (dims,), or () for the identity
    scale: Vector
    shift: float = 0.0

    def apply(self, x: X) -> X:
        """(x − offset) / scale + shift. Raises PolicyError for another number of dims."""
        offset, scale = self._like(x)
        return (x - offset) / scale + self.shift  # type: ignore[no-any-return]

    def invert(self, x: X) -> X:
        """(x − shift) · scale + offset. Raises PolicyError for another number of dims."""
        offset, scale = self._like(x)
        return (x - self.shift) * scale + offset  # type: ignore[operator,no-any-return]

    def _like(self, x: Any) -> tuple[Any, Any]:
        if self.offset.ndim and x.shape[-1:] != self.offset.shape:
            raise PolicyError(
                f"the normaliser has statistics of {len(self.offset)} dims, got an array of shape "
                f"{tuple(x.shape)}"
            )
        if isinstance(x, np.ndarray):
            return self.offset.astype(x.dtype), self.scale.astype(x.dtype)
        return x.new_tensor(self.offset), x.new_tensor(self.scale)  # a torch tensor


IDENTITY = Affine(np.zeros(()), np.ones(()))


def refuse(
    bad: NDArray[np.bool_],
    values: Vector,
    place: str,
    want: str,
    error: type[RtError] = ConfigError,
) -> None:
    """Raise `error`, "expected a number `want`", of the first value that is `bad`, if any."""
    if bad.any():
        at = int(np.argmax(bad))
        raise error(f"{place}[{at}]: expected a number {want}, got {values[at]:g}")
