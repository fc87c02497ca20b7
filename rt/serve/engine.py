"""From requests to replies: what is wrong with each is said of that one alone, the others are
computed, together where the policy can.

Guarantees:
  - One reply for each request, whatever came and whatever the policy raises; a robot is told the
    sentence of an error of ours, of others their type alone. Their traceback is on stderr.
  - Nothing of one request is kept for the next, but by a policy that carries state itself
    (`stateful`): that one must be asked by one client at a time.
Assumption: `answer` is called from one thread, the one that has loaded the policy.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from rt.errors import RtError
from rt.infer.normalization import Normalizer
from rt.infer.policy import GuidanceOptions, Policy
from rt.serve.desk import Asked, Reply
from rt.wire.codec import WireError, decode
from rt.wire.images import with_images
from rt.wire.offer import Offer
from rt.wire.openpi import our_observation
from rt.wire.protocol import Request, Result, read_request, write_result


class Keys(NamedTuple):
    """Where openpi's clients put what a policy observes; see rt.wire.openpi."""

    camera_map: dict[str, str]
    state_key: str


class Engine:
    """A policy that answers requests, several at once. keys: openpi's, where it is of openpi."""

    def __init__(
        self, policy: Policy, normalizer: Normalizer, offer: Offer, keys: Keys | None = None
    ) -> None:
        self.offer = offer
        self.stateful = hasattr(policy, "reset")
        self.batches = bool(getattr(policy, "batches", hasattr(policy, "infer_many")))
        self._policy: Any = policy
        self._normalizer = normalizer
        self._keys = keys
        self._episode: tuple[Hashable, int | None] | None = None

    def warm_up(self, max_batch: int) -> None:
        """Run every path, for every size of batch."""
        if hasattr(self._policy, "warmup_many"):
            self._policy.warmup_many(max_batch)
        else:
            self._policy.warmup()

    def answer(self, asked: Sequence[Asked]) -> list[Reply]:
        """A result for each, or a sentence."""
        started = time.perf_counter()
        requests = [self._read(one) for one in asked]
        good = [request for request in requests if isinstance(request, Request)]
        chunks = iter(self._chunks(good))  # one for each of them
        took = getattr(self._policy, "latency", {}) if good else {}
        result = Result(
            np.empty((0, 0), np.float32),
            infer_ms=1e3 * (time.perf_counter() - started),
            encode_ms=took.get("encode_ns", 0) / 1e6,
            denoise_ms=took.get("denoise_ns", 0) / 1e6,
            batch=len(good),
        )
        return [
            str(request)
            if isinstance(request, WireError)
            else self._reply(
                request, next(chunks), result._replace(queue_ms=1e3 * (started - one.t_asked))
            )
            for one, request in zip(asked, requests, strict=True)
        ]

    def _read(self, asked: Asked) -> Request | WireError:
        """What is asked for, its images decoded."""
        try:
            if isinstance(asked.message, str):
                raise WireError("expected a binary frame of the robot, got text")
            values = decode(asked.message)
            if self._keys is not None and "protocol" not in values:
                values = our_observation(values, *self._keys)
            request = read_request(values, self.offer)
            data = with_images(request.input_data, self.offer.dims.get("num_img_obs"))
        except WireError as error:
            return error
        except Exception as error:  # a fault of ours: the others of the batch have none
            return WireError(_failed(error))
        if self.stateful and self._episode != (asked.client, request.episode):
            self._policy.reset()
            self._episode = asked.client, request.episode
        return request._replace(input_data=data)

    def _chunks(self, requests: list[Request]) -> list[Any]:
        """A chunk for each, or the exception in its place."""
        asks = [_ask(request) for request in requests]
        if not (self.batches and asks):
            return [self._alone(*ask) for ask in asks]
        try:
            chunks = self._policy.infer_many(asks, self._normalizer)
            return [chunk for chunk, _ in zip(chunks, asks, strict=True)]
        except Exception as error:  # all of it: a lost GPU, say
            return [error] * len(asks)

    def _alone(self, input_data: dict[str, Any], executed: int) -> Any:
        try:
            if "guidance" not in input_data:
                return self._policy.predict(input_data, self._normalizer)
            rows = len(input_data["prev_action"])
            return self._policy.guided_inference(input_data, self._normalizer, executed, rows)
        except Exception as error:
            return error

    def _reply(self, request: Request, chunk: Any, result: Result) -> Reply:
        try:
            if isinstance(chunk, Exception):
                raise chunk
            actions = np.asarray(chunk, np.float32)
            return write_result(result._replace(actions=actions, number=request.number))
        except RtError as error:
            return str(error)
        except KeyError as error:
            key = error.args[0] if error.args else None
            if isinstance(key, str) and key not in request.input_data:
                return str(WireError(f"expected {error} in the request, which the policy observes"))
            return _failed(error)
        except Exception as error:
            return _failed(error)


def _ask(request: Request) -> tuple[dict[str, Any], int]:
    """The input_data, guided or not, and s."""
    if request.mode == "predict":
        return request.input_data, request.executed
    options = msgspec.structs.asdict(request.guidance)
    guidance = GuidanceOptions(prefix=request.mode == "prefix", **options)
    return request.input_data | {"guidance": guidance}, request.executed


def _failed(error: Exception) -> str:
    traceback.print_exception(error, file=sys.stderr)
    return f"the policy failed: {type(error).__name__}"
