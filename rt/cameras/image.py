"""From a camera's picture to an observation's image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(1)  # OpenCV's workers would run beside control, on every core


def prepare(
    picture: NDArray[Any],
    out: NDArray[np.uint8],
    *,
    rotate_deg: int = 0,
    swap_colours: bool = False,
) -> None:
    """Area-resize `picture` (h, w, 3) uint8, turn it clockwise and, with `swap_colours`, reverse
    its channels: into `out` (3, height, width) uint8.

    It is turned after it was resized: the image is the same, and there is less of it to turn.
    """
    turns = rotate_deg // 90
    height, width = out.shape[1:] if turns % 2 == 0 else out.shape[:0:-1]
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    planes = np.rot90(small, -turns).transpose(2, 0, 1)
    np.copyto(out, planes[::-1] if swap_colours else planes)
