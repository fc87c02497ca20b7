"""A file of training statistics, and how a policy was normalised with it.

Three kinds of file, told apart by what they hold; of both JSONs, keys beyond these are ignored:

    {"norm_stats": {"state": {"mean": [...], ...}, "actions": ...}}     openpi's norm_stats.json
    {"observation.state": {"mean": [...], ...}, "action": ...}          lerobot's meta/stats.json
    "observation.state.mean" → tensor, ...                              lerobot's .safetensors

The first is normalised by openpi's formulas, the others by lerobot's:

                openpi                                    lerobot
    z-score     (x − mean) / (std + 1e-6)                 (x − mean) / (std + 1e-8)
    quantile    2 (x − q01) / (q99 − q01 + 1e-6) − 1      2 (x − q01) / (q99 − q01) − 1
    min-max                                               2 (x − min) / (max − min) − 1

where a span of 0 counts as 1e-8 in lerobot's. Denormalising is the exact inverse, where lerobot's
own leaves the 1e-8 out: a difference of 1e-8 times the normalised value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from rt.arrays import Vector
from rt.config.files import convert, read_mapping
from rt.errors import ConfigError, RtError
from rt.infer.affine import Affine, Scaling, refuse

STATE_KEYS = ("observation.state", "state")
ACTION_KEYS = ("action", "actions")
NAMES: dict[Scaling, tuple[str, str]] = {
    "z-score": ("mean", "std"),
    "quantile": ("q01", "q99"),
    "min-max": ("min", "max"),
}


class Convention(NamedTuple):
    """What two projects do differently with the same statistics."""

    epsilon: float
    span: Callable[[Vector, float], Vector]  # (upper − lower, epsilon) → what to divide by
    padded: bool  # whether what lies beyond the dims is padding, and cut off


OPENPI = Convention(1e-6, lambda span, epsilon: span + epsilon, padded=True)
LEROBOT = Convention(1e-8, lambda span, epsilon: np.where(span == 0, epsilon, span), padded=False)


class _Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's statistics; further ones are ignored."""

    mean: list[float] | None = None
    std: list[float] | None = None
    q01: list[float] | None = None
    q99: list[float] | None = None
    min: list[float] | None = None
    max: list[float] | None = None


def read_affines(
    path: Path, state_dim: int, action_dim: int, mode: Scaling
) -> tuple[Affine, Affine]:
    """How to normalise states and actions. Raises ConfigError, as Normalizer.load says."""
    content = _tensors(path) if path.suffix == ".safetensors" else read_mapping(path)
    convention, place = LEROBOT, str(path)
    if "norm_stats" in content:
        content, convention, place = content["norm_stats"], OPENPI, f"{path}: norm_stats"
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: expected a mapping under the key 'norm_stats', got none")
    return (
        _affine(content, STATE_KEYS, state_dim, mode, convention, place),
        _affine(content, ACTION_KEYS, action_dim, mode, convention, place),
    )


def scaling(
    names: tuple[str, str],
    first: Vector,
    second: Vector,
    convention: Convention,
    place: str,
    error: type[RtError] = ConfigError,
) -> Affine:
    """The formula for the statistics `names`: a mean and a std, or a lower and an upper bound.

    Raises `error` for a std that is not above 0, and an upper bound below its lower one.
    """
    low, high = names
    if high == "std":
        refuse(second <= 0, second, f"{place}.std", "above 0", error)
        return Affine(first, second + convention.epsilon)
    refuse(second < first, second, f"{place}.{high}", f"no less than its {low}", error)
    return Affine(first, convention.span(second - first, convention.epsilon) / 2, shift=-1.0)


def _affine(
    stats: Mapping[str, Any],
    keys: tuple[str, ...],
    dims: int,
    mode: Scaling,
    convention: Convention,
    place: str,
) -> Affine:
    key = next((key for key in keys if key in stats), None)
    if key is None:
        raise ConfigError(
            f"{place}: expected a key {' or '.join(map(repr, keys))}, got "
            f"{', '.join(map(repr, stats)) or 'none'}"
        )
    place = f"{place}.{key}" if convention is OPENPI else f"{place}: {key}"
    entry = convert(stats[key], _Stats, place)
    first, second = (_vector(entry, name, dims, convention, place) for name in NAMES[mode])
    return scaling(NAMES[mode], first, second, convention, place)


def _vector(entry: _Stats, name: str, dims: int, convention: Convention, place: str) -> Vector:
    values = getattr(entry, name)
    if values is None:
        raise ConfigError(f"{place}: expected a key {name!r} (a list of {dims} numbers), got none")
    if len(values) < dims or (len(values) > dims and not convention.padded):
        raise ConfigError(f"{place}.{name}: expected {dims} numbers, got {len(values)}")
    return np.asarray(values[:dims], np.float64)


def _tensors(path: Path) -> dict[str, Any]:
    """The tensors "<feature>.<name>" as lerobot's JSON has them: {feature: {name: [...]}}."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: expected a safetensors file of numbers, but {error}") from None
    result: dict[str, Any] = {}
    for name, values in tensors.items():
        feature, _, statistic = name.rpartition(".")
        result.setdefault(feature, {})[statistic] = values.tolist()
    return result
