"""A frame's image as JPEG, and back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rt.errors import ConfigError

cv2.setNumThreads(1)  # OpenCV's workers would run beside control, on every core


def encode(image: NDArray[np.uint8], quality: int) -> bytes:
    """`image` (3, height, width) as the policy gets it, its first channel taken for red.

    quality: 0 to 100.
    """
    red, green, blue = image
    bgr = cv2.merge([blue, green, red])  # OpenCV's order
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def decode(jpeg: bytes) -> NDArray[np.uint8]:
    """The image (3, height, width), as the policy had it but for what JPEG loses.

    Raises ConfigError if it is none.
    """
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError("expected JPEG images in the recording, got others")
    image: NDArray[np.uint8] = np.asarray(picture, np.uint8)[..., ::-1].transpose(2, 0, 1)
    return image
