"""What a policy server offers: its first frame (docs/remote.md).

A map whose only key is `rt`. A stock openpi server sends a map without it, and is then spoken to in
openpi's words.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rt.wire.codec import WireError, converted, decode, encode, kind_of

# What a robot relies on as long as it runs, whatever else is offered another time.
BINDING = (
    *("policy", "policy_type", "modes", "action_context_size", "dims", "statistics"),
    *("trained_for", "images"),
)
ANOTHER_POLICY = "another policy is served there now: launch anew to run that one"
PROTOCOL = 1
MAX_MESSAGE_BYTES = 16 << 20

Rows = Annotated[int, Meta(ge=0, le=1_000_000)]


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """x → (x − offset) / scale + shift, of each dim, as the policy's statistics have it."""

    offset: list[float]
    scale: list[float]
    shift: float = 0.0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the server normalises by. None: not at all."""

    state: Scaled | None = None
    action: Scaled | None = None
    delta: list[bool] | None = None  # by joint, whether its action is relative to the state


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server serves: all that a robot has to know of a policy before it moves."""

    protocol: int = PROTOCOL
    version: str = ""  # of rt
    policy: str  # its YAML's name
    policy_type: str
    modes: tuple[str, ...]
    action_context_size: Rows = 0
    dims: dict[str, int] = {}  # those of rt.infer.policy_config.DIMS that its components declare
    units: str = "rad"
    statistics: Statistics | None = None
    trained_for: tuple[Literal["sim", "real"], ...] | None = None  # None: anything
    images: tuple[str, ...] = ("raw", "jpeg")
    max_message_bytes: int = MAX_MESSAGE_BYTES


def write_offer(offer: Offer) -> bytes:
    """The server's first frame."""
    return encode({"rt": msgspec.to_builtins(offer)})


def read_offer(message: bytes | str) -> Offer | None:
    """What a server offers. None: it is no server of ours but a stock openpi one.

    Raises WireError for a sentence in its place, a message that is none, and an offer of another
    protocol or in other units.
    """
    if isinstance(message, str):
        raise WireError(f"the policy server says: {message.strip()}")
    told = decode(message).get("rt")
    if told is None:
        return None
    if not isinstance(told, dict):
        raise WireError(f"expected a map in 'rt', what the server offers, got {kind_of(told)}")
    if not is_ours(theirs := told.get("protocol")):
        raise WireError(
            f"the policy server (rt {told.get('version')}) speaks protocol {theirs}, this robot "
            f"{PROTOCOL}: install the same rt on both"
        )
    offer: Offer = converted(told, Offer)
    if offer.units != "rad":
        raise WireError(f"expected positions in rad, got an offer of {offer.units!r}")
    return offer


def is_ours(protocol: Any) -> bool:
    """Whether a message of that protocol can be read."""
    return isinstance(protocol, int) and protocol == PROTOCOL


def bond(offer: Offer | None) -> tuple[object, ...]:
    """What of an offer a robot relies on. None: a stock openpi server's."""
    return ("stock",) if offer is None else tuple(getattr(offer, name) for name in BINDING)
