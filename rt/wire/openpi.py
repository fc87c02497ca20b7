"""Our observation under openpi's keys, and back.

A train config's input transforms look for a camera or the state under a key of theirs: camera_map
says for each of our cameras which one. Dots nest: `images.cam_high`. The model's own three keys
(IMAGE_KEYS) stand for a config that transforms no cameras.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rt.errors import PolicyError
from rt.wire.codec import WireError

IMAGE_KEYS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")  # of every pi0 and pi0.5
# Where a policy YAML says nothing else.
CAMERA_MAP = dict(zip(("head", "left", "right"), IMAGE_KEYS, strict=True))


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


def our_observation(
    data: dict[str, Any], camera_map: dict[str, str], state_key: str
) -> dict[str, Any]:
    """The way back: what a script for openpi's server sends, under our names.

    Raises WireError for a key that is not there; the model's own cameras may be absent or masked.
    """
    models_own = set(camera_map.values()) <= set(IMAGE_KEYS)
    ours = {"proprio": _take(data, state_key)}
    for camera, key in camera_map.items():
        if not models_own:
            ours[camera] = _take(data, key)
        elif _is_seen(data, key):
            ours[camera] = data["image"][key]
    if "prompt" in data:
        ours["prompt"] = data["prompt"]
    return ours


def _is_seen(data: dict[str, Any], key: str) -> bool:
    """Whether one of the model's own images is there, and not masked. WireError."""
    images, masks = data.get("image", {}), data.get("image_mask", {})
    if not (isinstance(images, dict) and isinstance(masks, dict)):
        raise WireError("expected maps of images and truths in 'image' and 'image_mask'")
    mask = masks.get(key, True)
    if not isinstance(mask, bool | np.bool_):
        raise WireError(f"image_mask.{key}: expected true or false, got {type(mask).__name__}")
    return key in images and bool(mask)


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


def _take(data: Any, key: str) -> Any:
    """What stands at `key`. WireError."""
    for name in key.split("."):
        if not isinstance(data, dict) or name not in data:
            raise WireError(f"expected {key!r}, as openpi's train config has it, got no such key")
        data = data[name]
    return data
