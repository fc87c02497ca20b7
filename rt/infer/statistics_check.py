"""Whether statistics are of this robot: a file of numbers does not say what is in which place.

The middle of what a policy was trained with, its mean or the middle between two quantiles, lies
where the robot can be. Joints in another order, degrees and other robots' data seldom do.
"""

from __future__ import annotations

import numpy as np

from rt.config import Config
from rt.errors import ConfigError
from rt.infer.affine import IDENTITY
from rt.infer.normalization import Normalizer


def check_statistics(normalizer: Normalizer, config: Config, place: str) -> None:
    """Raises ConfigError for the first joint whose middle lies outside its position limits, by
    more than `limit_margin_deg`, and for another number of joints. `place`: the file, for the
    error.

    Relative actions have their middle anywhere, and are not looked at.
    """
    delta, dims = normalizer.delta, config.params.action_dim
    if delta is not None and len(delta) != dims:
        raise ConfigError(
            f"{place}: delta: expected one for each of {dims} joints, got {len(delta)}"
        )
    every = np.full(dims, True)
    lower, upper = np.rad2deg(config.lower_rad), np.rad2deg(config.upper_rad)
    margin = config.robot.limit_margin_deg
    for name, affine, looked_at in (
        ("observation.state", normalizer.state, every),
        ("action", normalizer.action, every if delta is None else ~delta),
    ):
        if affine is IDENTITY:
            continue
        if affine.offset.shape != (dims,):
            raise ConfigError(
                f"{place}: {name}: expected numbers for {dims} joints, got {affine.offset.size}"
            )
        middle = np.rad2deg(affine.invert(np.zeros(dims)))
        outside = looked_at & ((middle < lower - margin) | (middle > upper + margin))
        if outside.any():
            joint = int(np.argmax(outside))
            raise ConfigError(
                f"{place}: {name}[{joint}]: expected data of this robot, whose joint {joint} moves "
                f"between {lower[joint]:g} and {upper[joint]:g} degrees, got data around "
                f"{middle[joint]:.4g}: are its joints in the order of state_keys, in radians?"
            )
