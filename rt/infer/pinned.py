"""Memory that a CUDA device copies from by itself, while the host goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pinned_zeros(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(count,) zeros of `dtype` in pinned (page-locked) memory. Needs CUDA."""
    import torch  # a robot whose policy is elsewhere does without it

    octets = torch.zeros(count * dtype.itemsize, dtype=torch.uint8).pin_memory()
    return np.ndarray(count, dtype, octets.numpy())  # which keeps the tensor alive
