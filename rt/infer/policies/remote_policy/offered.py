"""What a server says of its policy in its first frame, and how it wants to be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rt.errors import ConfigError
from rt.infer.affine import IDENTITY, Affine
from rt.infer.normalization import Normalizer
from rt.infer.policies.remote_policy.options import Options
from rt.infer.policy import COMMON_MODES
from rt.infer.policy_config import RobotKind
from rt.wire.codec import WireError, encode
from rt.wire.offer import MAX_MESSAGE_BYTES, Offer, Scaled, Statistics, bond
from rt.wire.openpi import openpi_observation
from rt.wire.protocol import Request, write_request

STOCK_MODES = tuple(mode for mode in COMMON_MODES if mode != "rtc")


@dataclass(frozen=True)
class Served:
    """A policy on another machine. The names of rt.infer.Policy's attributes mean what they mean
    there."""

    write: Callable[[Request], bytes]  # a request, in the server's words
    modes: tuple[str, ...]
    described: str = ""
    modes_why: str = ""
    action_context_size: int = 0
    dims: dict[str, int] = field(default_factory=dict)
    trained_for: tuple[RobotKind, ...] | None = None
    statistics: Normalizer | None = None
    numbered: bool = False  # its answers tell the request's number
    max_bytes: int = MAX_MESSAGE_BYTES  # of a request
    bond: tuple[object, ...] = ()  # what a robot relies on


NOBODY = Served(write_request, modes=())  # before the first greeting


def served_by(offer: Offer | None, options: Options, url: str) -> Served:
    """The policy that is offered at `url`.

    Raises ConfigError for options that do not go with it, WireError for an offer that contradicts
    itself.
    """
    encodings = ("raw",) if offer is None else offer.images
    if options.image_encoding not in encodings:
        raise ConfigError(
            f"policy.image_encoding: expected one of {', '.join(encodings)}, which {url} can read, "
            f"got {options.image_encoding!r}"
        )
    if offer is None:
        return _stock(options.camera_map, options.state_key, url)
    return Served(
        write=_write_jpeg if options.image_encoding == "jpeg" else write_request,
        modes=offer.modes,
        described=f"{offer.policy} at {url}, images {options.image_encoding}",
        action_context_size=offer.action_context_size,
        dims=offer.dims,
        trained_for=offer.trained_for,
        statistics=_normalizer(offer.statistics),
        numbered=True,
        max_bytes=offer.max_message_bytes,
        bond=bond(offer),
    )


def _stock(camera_map: dict[str, str] | None, state_key: str | None, url: str) -> Served:
    """A stock openpi server's policy: what it is like, nobody tells."""
    if camera_map is None or state_key is None:
        raise ConfigError(
            f"policy: expected camera_map and state_key, because {url} is a stock openpi server, "
            "whose policy has names of its own for what it sees: add them"
        )

    def write(request: Request) -> bytes:
        return encode(openpi_observation(request.input_data, camera_map, state_key))

    why = (
        f"{url} is a stock openpi server, which knows no prefix: take one of these, or serve the "
        "policy with python -m rt.serve"
    )
    described = f"a stock openpi server's policy at {url}"
    return Served(write, STOCK_MODES, described, why, bond=bond(None))


def _write_jpeg(request: Request) -> bytes:
    from rt.wire.images import to_jpeg  # OpenCV, for those who ask for it

    def packed(value: Any) -> Any:
        image = isinstance(value, np.ndarray) and value.dtype == np.uint8
        return to_jpeg(value) if image else value

    data = {key: packed(value) for key, value in request.input_data.items()}
    return write_request(request._replace(input_data=data))


def _normalizer(told: Statistics | None) -> Normalizer | None:
    """To be looked at: nothing is normalised here. WireError."""
    if told is None:
        return None
    delta = None if told.delta is None else np.array(told.delta, np.bool_)
    return Normalizer(_affine("state", told.state), _affine("action", told.action), delta)


def _affine(name: str, scaled: Scaled | None) -> Affine:
    if scaled is None:
        return IDENTITY
    offset, scale = np.array(scaled.offset, np.float64), np.array(scaled.scale, np.float64)
    if offset.shape != scale.shape:
        raise WireError(
            f"statistics.{name}: expected as many scales as offsets, got {scale.size} and "
            f"{offset.size}"
        )
    if not np.isfinite([*offset, *scale, scaled.shift]).all():
        raise WireError(f"statistics.{name}: expected finite numbers, got others")
    return Affine(offset, scale, scaled.shift)
