"""From numpy arrays to the tensors that openpi's models take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def batch_of_one(value: Any, device: torch.device) -> Any:
    """Nested numpy arrays as tensors with a batch axis in front."""
    if isinstance(value, dict):
        return {key: batch_of_one(inner, device) for key, inner in value.items()}
    return torch.from_numpy(np.array(value)).to(device)[None]
