"""Observations to warm a network up with."""

from __future__ import annotations

from typing import Any

import numpy as np


def example_input(network: Any) -> dict[str, Any]:
    """An `input_data` for it: its own `example_observation()`, else a random one of its shapes."""
    own = getattr(network, "example_observation", None)
    example: dict[str, Any] = random_observation(network) if own is None else own()
    return example


def random_observation(network: Any) -> dict[str, Any]:
    """An `input_data` of the shapes that the network's attributes tell."""
    random = np.random.default_rng(0)
    history = getattr(network, "proprio_history_size", 1)
    state_dim = getattr(network, "state_dim", network.action_dim)
    height, width = getattr(network, "image_height", 240), getattr(network, "image_width", 320)
    images = (getattr(network, "num_img_obs", 1), 3, height, width)
    observation: dict[str, Any] = {
        name: random.integers(0, 256, images, np.uint8)
        for name in getattr(network, "camera_names", ())
    }
    observation["proprio"] = random.standard_normal((history, state_dim)).astype(np.float32)
    return observation
