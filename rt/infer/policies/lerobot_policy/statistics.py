"""A lerobot checkpoint's statistics, out of its normaliser's state, as our Normalizer.

    MEAN_STD     (x − mean) / (std + eps)
    MIN_MAX      2 (x − min) / (max − min) − 1
    QUANTILES    2 (x − q01) / (q99 − q01) − 1
    QUANTILE10   2 (x − q10) / (q90 − q10) − 1
    IDENTITY     x

A span of 0 counts as eps, as in lerobot.processor.normalize_processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from rt.arrays import Vector
from rt.errors import CheckpointError
from rt.infer.affine import IDENTITY, Affine, refuse
from rt.infer.statistics_file import LEROBOT, scaling

NAMES = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}


def affine(
    statistics: Mapping[str, Tensor], feature: str, mode: str, dims: int, eps: float, place: Path
) -> Affine:
    """How lerobot normalises one feature.

    statistics: "<feature>.<name>" → (dims or more,); what is beyond dims is padding, and cut off.
    mode: lerobot's NormalizationMode.
    place: the file, for errors.
    Raises CheckpointError for a mode that is not known, statistics that are missing, too short or
    not finite, a std that is not above 0 and an upper bound below its lower one.
    """
    if mode == "IDENTITY":
        return IDENTITY
    if mode not in NAMES:
        raise CheckpointError(
            f"{place}: {feature} is normalised by {mode!r}, expected one of "
            f"{', '.join(NAMES)} or IDENTITY"
        )
    first, second = (_vector(statistics, f"{feature}.{name}", dims, place) for name in NAMES[mode])
    convention = LEROBOT._replace(epsilon=eps)
    return scaling(NAMES[mode], first, second, convention, f"{place}: {feature}", CheckpointError)


def _vector(statistics: Mapping[str, Tensor], key: str, dims: int, place: Path) -> Vector:
    if key not in statistics:
        raise CheckpointError(
            f"{place}: expected statistics {key!r}, got {', '.join(statistics) or 'none'}: "
            "fine-tune the checkpoint on your robot's data, which writes them"
        )
    values = statistics[key].double().flatten().numpy()
    if len(values) < dims:
        raise CheckpointError(f"{place}: {key}: expected {dims} numbers, got {len(values)}")
    values = values[:dims]
    refuse(~np.isfinite(values), values, f"{place}: {key}", "finite", CheckpointError)
    return values
