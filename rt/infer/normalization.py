"""Robot units to the policy's units and back, from the statistics of its training data.

    z-score   (x − mean) / (std + 1e-6)
    quantile  (x − q01) / (q99 − q01 + 1e-6) · 2 − 1

A policy whose actions are relative to the state that it saw ("delta actions") gets its normaliser
`anchored` at that state: chunks and leftovers are absolute everywhere else.

`norm_stats.json` is `{"norm_stats": {"observation.state": {...}, "action": {...}}}` with lists
`mean`, `std`, `q01`, `q99` (only the mode's two are needed); `state` and `actions` will do.

A pickle of statistics runs code when it is read, so it is converted once, to JSON, by an unpickler
that admits nothing but arrays, numbers and dicts:

    python -m rt.infer.normalization convert norm_stats.pkl norm_stats.json
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt.arrays import Chunk, Vector
from rt.config.files import convert, read_mapping
from rt.errors import ConfigError, PolicyError, RtError

Scaling = Literal["z-score", "quantile"]
X = TypeVar("X")  # a numpy array or a torch tensor (..., dims) of floats

STATE_KEYS = ("observation.state", "state")
ACTION_KEYS = ("action", "actions")
EPSILON = 1e-6


@dataclass(frozen=True)
class Affine:
    """x → (x − offset) / scale and back, along the last axis. Keeps type, dtype and device."""

    offset: Vector  # (dims,), or () for the identity
    scale: Vector

    def apply(self, x: X) -> X:
        """(x − offset) / scale. Raises PolicyError for another number of dims."""
        offset, scale = self._like(x)
        return (x - offset) / scale  # type: ignore[no-any-return]

    def invert(self, x: X) -> X:
        """x · scale + offset. Raises PolicyError for another number of dims."""
        offset, scale = self._like(x)
        return x * scale + offset  # type: ignore[no-any-return]

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


@dataclass(frozen=True)
class Normalizer:
    """What a policy is handed as `data_normalization_interface`."""

    state: Affine
    action: Affine
    delta: NDArray[np.bool_] | None = None  # (A,): joints whose action is relative to the state

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing, whatever the state."""
        return self.state is IDENTITY and self.action is IDENTITY and self.delta is None

    def anchored(self, state: Vector | Chunk) -> Normalizer:
        """Itself for an inference from `state` (state_dim,), robot units, state_dim >= A.

        Relative actions are x − state, so that only the offset moves. Raises PolicyError.
        """
        if self.delta is None:
            return self
        if state.shape[-1] < len(self.delta):
            raise PolicyError(
                f"delta actions of {len(self.delta)} joints need a state of at least as many dims, "
                f"got {state.shape[-1]}"
            )
        anchor = np.where(self.delta, state[: len(self.delta)], 0.0)
        action = Affine(self.action.offset + anchor, self.action.scale + np.zeros(len(anchor)))
        return Normalizer(self.state, action, self.delta)

    def normalize_state(self, state: X) -> X:
        """(..., state_dim), robot units → the policy's."""
        return self.state.apply(state)

    def normalize_action(self, action: X) -> X:
        """(..., action_dim), robot units → the policy's."""
        return self.action.apply(action)

    def denormalize_action(self, action: X) -> X:
        """(..., action_dim), the policy's units → the robot's."""
        return self.action.invert(action)

    @classmethod
    def identity(cls) -> Normalizer:
        """For a policy that speaks robot units."""
        return cls(IDENTITY, IDENTITY)

    @classmethod
    def load(
        cls,
        path: Path | str,
        state_dim: int,
        action_dim: int,
        *,
        mode: Scaling = "z-score",
        delta: NDArray[np.bool_] | None = None,
    ) -> Normalizer:
        """Read `norm_stats.json`. Statistics longer than the dims are padding, and cut off.

        Raises ConfigError for a missing key, a list shorter than the dims, a value that is not a
        finite number, a std that is not above 0, and a q99 below its q01.
        """
        stats = read_mapping(path).get("norm_stats")
        if not isinstance(stats, dict):
            raise ConfigError(f"{path}: expected a mapping under the key 'norm_stats', got none")
        return cls(
            _affine(stats, STATE_KEYS, state_dim, mode, path),
            _affine(stats, ACTION_KEYS, action_dim, mode, path),
            delta,
        )


class _Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One key's statistics; keys beyond these are ignored."""

    mean: list[float] | None = None
    std: list[float] | None = None
    q01: list[float] | None = None
    q99: list[float] | None = None


def _affine(
    stats: dict[str, Any], names: tuple[str, ...], dims: int, mode: Scaling, path: Path | str
) -> Affine:
    name = next((name for name in names if name in stats), None)
    if name is None:
        raise ConfigError(
            f"{path}: norm_stats: expected a key {' or '.join(map(repr, names))}, got "
            f"{', '.join(map(repr, stats)) or 'none'}"
        )
    place = f"{path}: norm_stats.{name}"
    entry = convert(stats[name], _Stats, place)
    if mode == "z-score":
        mean = _vector(entry, "mean", dims, place)
        std = _vector(entry, "std", dims, place)
        refuse(std <= 0, std, f"{place}.std", "above 0")
        return Affine(mean, std + EPSILON)
    q01 = _vector(entry, "q01", dims, place)
    q99 = _vector(entry, "q99", dims, place)
    refuse(q99 < q01, q99, f"{place}.q99", "no less than its q01")
    half = (q99 - q01 + EPSILON) / 2
    return Affine(q01 + half, half)


def _vector(entry: _Stats, name: str, dims: int, place: str) -> Vector:
    values = getattr(entry, name)
    if values is None:
        raise ConfigError(f"{place}: expected a key {name!r} (a list of {dims} numbers), got none")
    if len(values) < dims:
        raise ConfigError(f"{place}.{name}: expected {dims} numbers, got {len(values)}")
    return np.asarray(values[:dims], np.float64)


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


def main(argv: list[str]) -> int:
    """`convert in.pkl out.json`. Returns the exit code."""
    if len(argv) != 3 or argv[0] != "convert":
        print("usage: python -m rt.infer.normalization convert IN.pkl OUT.json", file=sys.stderr)
        return 2
    from rt.infer.statistics_pickle import convert_pickle

    try:
        convert_pickle(Path(argv[1]), Path(argv[2]))
    except RtError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
