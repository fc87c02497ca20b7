"""What stands in a robot's request and in its reply (docs/remote.md); the server's offer, which
comes before them, is rt.wire.offer's.

One reply for each request, in order: a binary frame is a result; a text frame is one sentence of
what was wrong with that request.

Positions are absolute, in radians, in robot order; histories are oldest first.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rt.arrays import Chunk
from rt.wire.codec import WireError, converted, decode, encode, kind_of
from rt.wire.offer import PROTOCOL, Offer, Rows, is_ours

REPLACED = "replaced by a newer observation"
MOST_UNDER_WAY = 2  # requests of a client: one that is computed, and a newer one

Mode = Literal["predict", "rtc", "prefix"]
GUIDED: tuple[Mode, ...] = ("rtc", "prefix")  # by a leftover
NUMBERS = ("proprio", "prev_action", "action_context")  # keys of input_data: float32


class Guidance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a leftover pulls; rt.infer.policy.GuidanceOptions."""

    schedule: Literal["exp", "linear", "ones", "zeros"] = "exp"
    max_guidance_weight: Annotated[float, Meta(gt=0, le=1e6)] = 5.0
    vjp: bool = True


class Request(NamedTuple):
    """An observation, and how a chunk is asked for.

    input_data: of rt.infer.Policy, but for its "guidance"; with a leftover also "prev_action"
        (H, A) and "est_delay" d. A camera's images may be JPEG: see rt.wire.images.
    mode: "predict": from the observation alone.
    executed: s, of a leftover.
    number: told again in the reply. None: of a client that does not ask for that.
    episode: another than before: the robot has begun anew. None: the client counts none.
    """

    input_data: dict[str, Any]
    mode: Mode = "predict"
    executed: int = 0
    guidance: Guidance = Guidance()
    number: int | None = None
    episode: int | None = None


class Result(NamedTuple):
    """A chunk (H, A) float32, and what it took. batch: chunks that were computed together."""

    actions: Chunk
    infer_ms: float = 0.0  # from the queue to the reply, on the server
    encode_ms: float = 0.0
    denoise_ms: float = 0.0
    queue_ms: float = 0.0
    batch: int = 1
    number: int | None = None


class _Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a request is no array."""

    protocol: int | None = None
    number: int | None = None
    episode: int | None = None
    prompt: Annotated[str, Meta(max_length=4096)] | None = None
    mode: str | None = None
    est_delay: Rows | None = None
    executed: Rows = 0
    guidance: Guidance = Guidance()


class _PolicyTiming(msgspec.Struct, frozen=True, kw_only=True):
    infer_ms: float = 0.0
    encode_ms: float = 0.0
    denoise_ms: float = 0.0


class _ServerTiming(msgspec.Struct, frozen=True, kw_only=True):
    infer_ms: float = 0.0
    queue_ms: float = 0.0
    batch: int = 1


def write_request(request: Request) -> bytes:
    """For a server that has offered `rt`. Raises TypeError for a value that cannot be sent."""
    told: dict[str, Any] = {
        "protocol": PROTOCOL,
        "number": request.number,
        "episode": request.episode,
    }
    if request.mode != "predict":
        guidance = msgspec.structs.asdict(request.guidance)
        told |= {"mode": request.mode, "executed": request.executed, "guidance": guidance}
    return encode({k: v for k, v in (request.input_data | told).items() if v is not None})


def read_request(values: dict[str, Any], offer: Offer) -> Request:
    """What a robot asks for, from its decoded message, of the shapes and modes that were offered.

    "proprio" may lack the history's axis. Cameras are whatever else came: rt.wire.images reads
    them. Raises WireError.
    """
    if not is_ours(theirs := values.get("protocol", PROTOCOL)):
        raise WireError(
            f"the robot speaks protocol {theirs}, this policy server (rt {offer.version}) "
            f"{PROTOCOL}: install the same rt on both"
        )
    told = {key: value for key, value in values.items() if key in _Options.__struct_fields__}
    options: _Options = converted(told, _Options)
    input_data = {key: value for key, value in values.items() if key not in told}
    if "proprio" not in input_data:
        raise WireError(f"expected 'proprio', the state, got {', '.join(values) or 'an empty map'}")
    state = input_data["proprio"]
    if isinstance(state, np.ndarray) and state.ndim == 1:
        input_data["proprio"] = state[None]
    for key in NUMBERS:
        if key in input_data:
            input_data[key] = _numbers(key, input_data[key], _shape(key, offer))
    if options.prompt is not None:
        input_data["prompt"] = options.prompt
    mode = _mode(options, input_data, offer)
    if mode == "predict":
        return Request(input_data, number=options.number, episode=options.episode)
    input_data["est_delay"] = options.est_delay
    return Request(
        input_data,
        mode,
        options.executed,
        options.guidance,
        options.number,
        options.episode,
    )


def write_result(result: Result) -> bytes:
    """The reply to a request."""
    told = {
        "actions": result.actions,
        "policy_timing": {name: getattr(result, name) for name in _PolicyTiming.__struct_fields__},
        "server_timing": {name: getattr(result, name) for name in _ServerTiming.__struct_fields__},
    }
    return encode(told if result.number is None else told | {"number": result.number})


def read_result(message: bytes | str, shape: tuple[int | None, int | None]) -> Result:
    """A server's reply, ours or a stock one's; None in `shape` (H, A) is any number of rows or
    joints. Raises WireError: what the server found wrong, or what is wrong with its reply."""
    if isinstance(message, str):
        raise WireError(f"the policy server says: {message.strip()}")
    values = decode(message)
    if "actions" not in values:
        raise WireError(f"expected 'actions' of the policy server, got {', '.join(values)}")
    policy: _PolicyTiming = converted(values.get("policy_timing", {}), _PolicyTiming)
    server: _ServerTiming = converted(values.get("server_timing", {}), _ServerTiming)
    return Result(
        _numbers("actions", values["actions"], shape),
        server.infer_ms or policy.infer_ms,
        policy.encode_ms,
        policy.denoise_ms,
        server.queue_ms,
        server.batch,
        converted(values.get("number"), int | None),
    )


def _shape(key: str, offer: Offer) -> tuple[int | None, int | None]:
    """What `key` must have, as far as it is known."""
    dims = offer.dims
    if key == "proprio":
        return dims.get("proprio_history_size"), dims.get("state_dim")
    if key == "prev_action":
        return dims.get("action_horizon"), dims.get("action_dim")
    return offer.action_context_size, dims.get("action_dim")


def _numbers(key: str, value: Any, shape: tuple[int | None, int | None]) -> NDArray[np.float32]:
    """`value` as float32 of that shape, finite."""
    expected = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise WireError(f"{key}: expected numbers of shape {expected}, got {kind_of(value)}")
    fits = (
        value.ndim == 2
        and value.size
        and all(n in (None, have) for n, have in zip(shape, value.shape, strict=True))
    )
    if not fits:
        raise WireError(f"{key}: expected shape {expected}, got {value.shape}")
    with np.errstate(over="ignore"):
        numbers = value.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise WireError(f"{key}: expected finite numbers, got others")
    return numbers


def _mode(options: _Options, input_data: dict[str, Any], offer: Offer) -> Mode:
    """A leftover comes with all that guidance asks for, or not at all: then it is "predict"."""
    leftover = input_data.get("prev_action")
    if options.mode is None:
        if leftover is not None or options.est_delay is not None:
            raise WireError("a leftover needs a mode: expected 'rtc' or 'prefix', got none")
        return "predict"
    guided: dict[str, Mode] = {mode: mode for mode in GUIDED if mode in offer.modes}
    if options.mode not in guided:
        served = " or ".join(map(repr, guided)) or "none, since the policy serves neither"
        what = f"{served}, or no mode and no leftover"
        raise WireError(f"mode: expected {what}, got {options.mode!r}")
    if leftover is None or options.est_delay is None:
        raise WireError(f"mode {options.mode!r} needs prev_action and est_delay, got too little")
    return guided[options.mode]
