"""From this runtime's observation to the one that openpi's input transforms take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rt.errors import PolicyError

IMAGE_KEYS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")  # of every pi0 and pi0.5


def openpi_observation(
    arrays: dict[str, Any], camera_map: dict[str, str], state_key: str
) -> dict[str, Any]:
    """`input_data` of rt.infer.Policy (numpy, no batch) under the train config's own keys.

    The newest image and the newest state are taken; images are (3, height, width) uint8, which the
    inputs of all of openpi's robots accept, but (height, width, 3) under the model's own keys.
    Raises PolicyError for a camera that is not there.
    """
    missing = [camera for camera in camera_map if camera not in arrays]
    if missing:
        raise PolicyError(
            f"camera_map names {', '.join(missing)}, but the runtime's camera_names have none of "
            "that name: mend one of them"
        )
    images = {key: arrays[camera][-1] for camera, key in camera_map.items()}
    data: dict[str, Any] = {}
    if images.keys() <= set(IMAGE_KEYS):
        data |= _model_images(images)
    else:
        for key, image in images.items():
            _put(data, key, image)
    _put(data, state_key, arrays["proprio"][-1].copy())
    if "prompt" in arrays:
        data["prompt"] = arrays["prompt"]
    return data


def batch_of_one(value: Any, device: torch.device) -> Any:
    """Nested numpy arrays as tensors with a batch axis in front."""
    if isinstance(value, dict):
        return {key: batch_of_one(inner, device) for key, inner in value.items()}
    return torch.from_numpy(np.array(value)).to(device)[None]


def _model_images(images: dict[str, Any]) -> dict[str, Any]:
    """The model's own three; one that is not there is black and masked."""
    black = np.zeros_like(next(iter(images.values())))
    return {
        "image": {key: images.get(key, black).transpose(1, 2, 0) for key in IMAGE_KEYS},
        "image_mask": {key: np.bool_(key in images) for key in IMAGE_KEYS},
    }


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    """`value` at `key`, whose dots nest."""
    *folders, name = key.split(".")
    for folder in folders:
        data = data.setdefault(folder, {})
    data[name] = value
