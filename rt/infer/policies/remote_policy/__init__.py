"""`type: remote_policy`: a policy on another machine, asked over a network. See docs/remote.md.

    policy:
      type: remote_policy
      url: ws://gpu:8000          # or a list: the next one is asked when one fails
      api_key_file: key           # what the server was started with, if with any
      deadline_ms: 1000           # a chunk that comes later is never executed
      image_encoding: jpeg        # or raw: ten times the bytes, the very pixels
      # A stock openpi server wants to know what its policy calls things:
      camera_map: {head: observation/exterior_image_1_left}
      state_key: observation/joint_position

There is no `model`, and no statistics: what belongs to the policy is where it runs. The same modes
and delays as with a policy that is here: `input_data` goes there as it is, a chunk comes back, and
the network is a part of how long that takes.
"""

from __future__ import annotations

import time
from typing import Any

from rt.arrays import Chunk
from rt.config.files import convert
from rt.errors import ConfigError, NoAnswerError, PolicyError
from rt.extras import need
from rt.infer.normalization import Normalizer
from rt.infer.policies.remote_policy.offered import NOBODY, served_by
from rt.infer.policies.remote_policy.options import Options, headers
from rt.infer.policy import GuidanceOptions
from rt.infer.registry import POLICY_REGISTRY
from rt.records import Outcome
from rt.wire.codec import WireError
from rt.wire.offer import ANOTHER_POLICY, bond, read_offer
from rt.wire.protocol import Guidance, Request, Result, read_result


@POLICY_REGISTRY.register("remote_policy")
class RemotePolicy:
    """Asks a server for each chunk, and waits no longer than the deadline.

    Keywords: see `Options`. Connects at once, so that whatever does not fit is refused before the
    robot moves. Raises ConfigError, MissingPackageError; NoAnswerError, a PolicyError.
    """

    def __init__(self, components: dict[str, Any], **options: Any) -> None:
        need("remote", "a remote policy")
        # Only now that it can be imported.
        from rt.infer.policies.remote_policy.link import CONNECT_S, Link

        if components:
            raise ConfigError(
                "model: expected none beside type remote_policy, whose model is where it runs, got "
                f"{', '.join(components)}: take it out"
            )
        self._options = convert(options, Options, "policy")
        urls = self._options.url
        deadline_s = self._options.deadline_ms / 1000
        self.deadline_s = max(deadline_s, CONNECT_S)  # whichever a call is about
        self.outcomes = [0] * len(Outcome)
        self.latency: dict[str, int] = {}
        self._served = NOBODY
        self._shape: tuple[int | None, int | None] = (None, None)
        self._number = self._episode = 0  # requests, and episodes, so far
        self._link = Link(
            (urls,) if isinstance(urls, str) else urls,
            deadline_s,
            self._greet,
            headers=headers(self._options.api_key_file),
            seed=self._options.seed,
        )
        self._link.open(self._options.connect_timeout_s)
        served = self._served
        self.described = served.described
        self.modes, self.modes_why = served.modes, served.modes_why
        self.action_context_size = served.action_context_size
        self.dims, self.trained_for = served.dims, served.trained_for
        self.statistics = served.statistics
        self._shape = served.dims.get("action_horizon"), served.dims.get("action_dim")

    def predict(
        self, input_data: dict[str, Any], data_normalization_interface: Normalizer
    ) -> Chunk:
        """A chunk from the observation alone: (H, A) float32, robot units.

        Raises NoAnswerError: there is none this time. PolicyError.
        """
        return self._ask(Request(input_data), data_normalization_interface)

    def guided_inference(
        self,
        input_data: dict[str, Any],
        data_normalization_interface: Normalizer,
        min_num_actions_executed: int,
        action_chunk_size: int,
    ) -> Chunk:
        """A chunk that agrees with "prev_action", guided where the policy is. Raises likewise."""
        input_data = dict(input_data)
        how: GuidanceOptions = input_data.pop("guidance", GuidanceOptions())
        if "prev_action" not in input_data:
            return self.predict(input_data, data_normalization_interface)
        request = Request(
            input_data,
            "prefix" if how.prefix else "rtc",
            min_num_actions_executed,
            Guidance(
                schedule=how.schedule, max_guidance_weight=how.max_guidance_weight, vjp=how.vjp
            ),
        )
        return self._ask(request, data_normalization_interface)

    def reset(self) -> None:
        """An episode begins: the server is told so with the next request."""
        self._episode += 1

    def warmup(self) -> None:
        """The server is warm before it can be reached."""

    def freeze_all_model_params(self) -> None:
        """There are none here."""

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def _greet(self, greeting: bytes | str) -> None:
        """The first frame of a connection: always the same offer. NoAnswerError, ConfigError."""
        try:
            offer = read_offer(greeting)
            if self._served is NOBODY:
                self._served = served_by(offer, self._options, self._link.server.url)
            elif bond(offer) != self._served.bond:
                raise WireError(ANOTHER_POLICY)
        except WireError as error:
            raise self._wrong(error) from None

    def _ask(self, request: Request, normalizer: Normalizer) -> Chunk:
        if not normalizer.is_identity:
            raise PolicyError(
                "a remote policy is normalised where it runs: take norm_stats_path and "
                "delta_actions out of its YAML, and norm_stats_file_path out of the runtime params"
            )
        started = time.perf_counter_ns()
        self._number += 1
        try:
            result = self._result(self._link.ask(lambda: self._message(request)))
        except NoAnswerError as error:
            self.outcomes[error.outcome] += 1
            if error.outcome is Outcome.WRONG and self._link.has_others:
                self._link.drop(str(error))  # this one may have lost its GPU, say
            raise
        self.outcomes[Outcome.OK] += 1
        self.latency = parts(result, time.perf_counter_ns() - started)
        return result.actions

    def _message(self, request: Request) -> bytes:
        """As the server wants it. PolicyError if it takes none of that size."""
        served = self._served
        message = served.write(request._replace(number=self._number, episode=self._episode))
        if len(message) > served.max_bytes:
            raise PolicyError(
                f"an observation is {len(message)} bytes, but {self._link.server.url} takes at "
                f"most {served.max_bytes}: take image_encoding jpeg, or smaller images"
            )
        return message

    def _result(self, answer: bytes | str) -> Result:
        """The chunk of this request. NoAnswerError for anything else."""
        try:
            if isinstance(answer, str):  # of a stock server's traceback, what it is about
                answer = answer.strip().rpartition("\n")[2]
            result = read_result(answer, self._shape)
        except WireError as error:
            raise self._wrong(error) from None
        if self._served.numbered and result.number != self._number:
            wrong = self._wrong(f"it answered request {result.number} in place of {self._number}")
            self._link.drop(str(wrong))  # only on a new connection is one answer one request's
            raise wrong
        self._shape = result.actions.shape[0], result.actions.shape[1]
        return result

    def _wrong(self, what: object) -> NoAnswerError:
        return NoAnswerError(f"{self._link.server.url}: {what}", Outcome.WRONG)


def parts(result: Result, took_ns: int) -> dict[str, int]:
    """Where the time of an exchange went. What the server does not account for is the network's,
    however it counts."""
    left = took_ns
    spent = {}
    times = {"queue_ns": result.queue_ms, "encode_ns": result.encode_ms}
    times["denoise_ns"] = result.denoise_ms or result.infer_ms - result.encode_ms
    for name, ms in times.items():
        spent[name] = int(min(max(0.0, 1e6 * ms), left))
        left -= spent[name]
    return spent | {"network_ns": left}
