"""The model's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

IMAGE_KEYS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


@dataclass
class Observation:
    images: dict[str, Any]
    image_masks: dict[str, Any]
    state: Any
    tokenized_prompt: Any = None
    tokenized_prompt_mask: Any = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Observation:
        for key, image in data["image"].items():
            if image.dtype == torch.uint8:  # (B, h, w, 3) to (B, 3, h, w) in -1..1
                image = image.to(torch.float32).permute(0, 3, 1, 2) / 255.0 * 2.0 - 1.0
                data["image"][key] = image
        return cls(
            images=data["image"],
            image_masks=data["image_mask"],
            state=data["state"],
            tokenized_prompt=data.get("tokenized_prompt"),
            tokenized_prompt_mask=data.get("tokenized_prompt_mask"),
        )
