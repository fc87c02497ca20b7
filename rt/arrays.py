"""The arrays that everybody speaks of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
"""One number per joint, (A,): rad, or rad per tick."""

Chunk = NDArray[np.float32]
"""A chunk's actions, (H, A)."""

Weights = NDArray[np.float32]
"""How strongly each row of a chunk is tied to the leftover, (H,): 0 to 1."""
