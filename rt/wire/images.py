"""A request's images: as they are, or as JPEG.

    {"jpeg": (bytes,) uint8, one picture behind the other, "ends": (num_img_obs,) int64}

Guarantee: what a picture claims to be is looked at before anything is decoded, so that a few bytes
cannot ask for gigabytes.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rt.wire.codec import WireError, kind_of
from rt.wire.protocol import NUMBERS

MAX_PIXEL_BYTES = 64 << 20  # of a request's images, decoded
# Each takes as long as the whole picture, however few its bytes; a progressive one has about ten.
MAX_SCANS, SCAN = 32, b"\xff\xda"
QUALITY = 90
NO_CAMERAS = (*NUMBERS, "est_delay", "prompt")  # keys of input_data
_NO_SIZE = (0xC4, 0xC8, 0xCC)  # of the markers 0xC0 to 0xCF; all others begin a frame
_NO_LENGTH = (0x01, *range(0xD0, 0xDA), 0xFF)  # behind these a decoder would look elsewhere than us
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

Images = NDArray[np.uint8]

cv2.setNumThreads(1)  # OpenCV's workers would run beside control, on every core


def to_jpeg(images: Images) -> dict[str, NDArray[Any]]:
    """(n, 3, height, width), the first channel taken for red."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    pictures = [cv2.imencode(".jpg", cv2.merge(tuple(image[::-1])), flags)[1] for image in images]
    ends = np.cumsum([len(picture) for picture in pictures], dtype=np.int64)
    return {"jpeg": np.concatenate(pictures), "ends": ends}


def with_images(input_data: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    """A request's `input_data` with its images decoded: whatever else is in it is a camera's.
    Raises WireError. See `read_images`."""
    seen = {key: value for key, value in input_data.items() if key not in NO_CAMERAS}
    return input_data | read_images(seen, count)


def read_images(values: dict[str, Any], count: int | None = None) -> dict[str, Images]:
    """Each camera's images (n, 3, height, width), from what came under its name: that, or one
    image (3, height, width) or (height, width, 3), or JPEG. count: n, where it is known.

    Raises WireError.
    """
    left = MAX_PIXEL_BYTES
    images = {}
    for camera, value in values.items():
        images[camera] = _images(camera, value, left)
        left -= images[camera].nbytes
        if count not in (None, len(images[camera])):
            raise WireError(f"{camera}: expected {count} images, got {len(images[camera])}")
    return images


def _images(camera: str, value: Any, left: int) -> Images:
    if isinstance(value, dict):
        return _from_jpeg(camera, value, left)
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or not value.size:
        raise WireError(f"{camera}: expected images, uint8, got {kind_of(value)}")
    if value.ndim == 3 and value.shape[0] == 3:
        return value[None]
    if value.ndim == 3 and value.shape[2] == 3:
        return value.transpose(2, 0, 1)[None]
    if value.ndim == 4 and value.shape[1] == 3:
        return value
    raise WireError(
        f"{camera}: expected images (n, 3, height, width) or one (3, height, width) or "
        f"(height, width, 3), got {value.shape}"
    )


def _from_jpeg(camera: str, value: dict[str, Any], left: int) -> Images:
    data, ends = value.get("jpeg"), value.get("ends")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
        raise WireError(f"{camera}: expected 'jpeg', the pictures' bytes, uint8 (bytes,)")
    if not isinstance(ends, np.ndarray) or ends.dtype.kind not in "iu" or ends.ndim != 1:
        raise WireError(f"{camera}: expected 'ends', where each picture ends, int64 (n,)")
    starts = [0, *ends.tolist()]
    if len(starts) < 2 or starts[-1] != len(data):
        raise WireError(f"{camera}: expected 'ends' up to {len(data)}, the pictures' bytes")
    pictures = [data[start:end] for start, end in pairwise(starts)]
    if any(picture.tobytes().count(SCAN) > MAX_SCANS for picture in pictures):
        raise WireError(f"{camera}: expected pictures of at most {MAX_SCANS} scans, got more")
    size = _size(camera, pictures[0])
    if any(_size(camera, picture) != size for picture in pictures):
        raise WireError(f"{camera}: expected pictures of one size")
    if 3 * size[0] * size[1] * len(pictures) > left:
        raise WireError(
            f"{camera}: expected images of at most {MAX_PIXEL_BYTES} bytes in a request, decoded; "
            f"got {len(pictures)} more of {size[1]}x{size[0]} pixels"
        )
    images = np.empty((len(pictures), 3, *size), np.uint8)
    for image, picture in zip(images, pictures, strict=True):
        try:
            pixels = cv2.imdecode(picture, _FLAGS)
        except cv2.error:
            pixels = None
        if pixels is None or pixels.shape != (*size, 3):
            raise WireError(f"{camera}: expected a JPEG picture, got one that cannot be decoded")
        image[2], image[1], image[0] = cv2.split(pixels)
    return images


def _size(camera: str, picture: NDArray[np.uint8]) -> tuple[int, int]:
    """(height, width) that a JPEG file claims, from its segments. Raises WireError."""
    data, at = memoryview(picture.data), 2
    if bytes(data[:2]) != b"\xff\xd8":
        raise WireError(f"{camera}: expected a JPEG picture, got something else")
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if marker in _NO_LENGTH:
            break
        if marker & 0xF0 == 0xC0 and marker not in _NO_SIZE:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 2 + max(length, 2)
    raise WireError(f"{camera}: expected a JPEG picture, got one that does not tell its size")
