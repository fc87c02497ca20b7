"""`type: flow`: any flow-matching network, with Real-Time Chunking.

The network is one module with
    action_horizon, action_dim       int, H and A
    encode(observation) → context    once per chunk; context may be anything
    velocity(context, x, tau) → v    once per step; x and v (B, H, A), tau (B,) from 0 to 1
and, optionally,
    model_action_dim                 the width of x and v in place of A, which it is not less than:
                                     what is beyond A is padding, which nothing pulls
    action_dtype                     torch.dtype of x; else that of the network's first parameter
    batches                          True: encode takes any batch B, no row of which changes
                                     another. Else each chunk is denoised by itself
    row_times                        True: velocity also takes tau (B, H), one time for each row.
                                     It was trained with clean prefixes: the mode `prefix` will do
    normalizer                       a Normalizer of its own, used in place of the runtime's
    action_context_size              N: it also observes the next N rows of the chunk in use
    finish(context, x) → x           once per chunk, after the last step
    num_inference_steps              n, where the YAML says none
    state_dim                        what "proprio" must have
    example_observation()            for warm-up: an `input_data`; else a random one is made from
                                     camera_names, num_img_obs, image_height, image_width,
                                     state_dim and proprio_history_size
Its observation is `input_data` of rt.infer.Policy with a batch axis in front of every array, B = 1
unless it `batches`: "proprio" (B, history, state_dim) and "action_context" (B, N, A) float32,
normalised; cameras (B, num_img_obs, 3, height, width) uint8; "prompt" as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rt.arrays import Chunk, Weights
from rt.errors import PolicyError
from rt.infer.acceleration import Acceleration, FastNetwork
from rt.infer.batch import Row, batch_size, groups, stack
from rt.infer.denoising import Guide
from rt.infer.inpainting import compute_guided_prefix_weights
from rt.infer.normalization import Normalizer
from rt.infer.policy import COMMON_MODES, GuidanceOptions
from rt.infer.registry import POLICY_REGISTRY
from rt.infer.stopwatch import Stopwatch

NOT_OBSERVED = ("guidance", "est_delay", "prev_action")  # keys of input_data that no network sees
DEMANDED = ("action_horizon", "action_dim", "encode", "velocity")
WARMUP_RUNS = 3


@POLICY_REGISTRY.register("flow")
class FlowPolicy:
    """Denoises a chunk in `num_inference_steps` steps, pulled to the leftover if there is one.

    num_inference_steps: n Euler steps. None: the network's own number, else 5.
    seed: of the noise, drawn anew for every chunk. None: a different one in every run.
    compile, bf16, cuda_graph, tf32: see `rt.infer.acceleration`.
    Raises PolicyError. Its attribute `batches` is whether its network takes several rows at once.
    """

    default_component_class = "rt.infer.policies.flow_model.FlowModel"

    def __init__(
        self,
        components: dict[str, nn.Module],
        *,
        num_inference_steps: int | None = None,
        seed: int | None = None,
        compile: bool = False,
        bf16: bool = False,
        cuda_graph: bool = False,
        tf32: bool = True,
    ) -> None:
        self.latency = {"encode_ns": 0, "denoise_ns": 0}
        self._network = self.network_of(components)
        if num_inference_steps is None:
            num_inference_steps = getattr(self._network, "num_inference_steps", 5)
        self._shape = (int(self._network.action_horizon), int(self._network.action_dim))
        width = int(getattr(self._network, "model_action_dim", self._shape[1]))
        self._padding = width - self._shape[1]
        self.action_context_size = int(getattr(self._network, "action_context_size", 0))
        self.batches = bool(getattr(self._network, "batches", False))
        clean_prefix = getattr(self._network, "row_times", False)
        self.modes = (*COMMON_MODES, "prefix") if clean_prefix else COMMON_MODES
        floats = (p for p in self._network.parameters() if p.is_floating_point())
        weight = next(floats, torch.zeros(()))
        self._device = weight.device
        self._dtype = getattr(self._network, "action_dtype", weight.dtype)
        self._stopwatch = Stopwatch(self._device)
        self._generator = torch.Generator(self._device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)
        how = Acceleration(compile, bf16, cuda_graph, tf32)
        self._fast = FastNetwork(self._network, num_inference_steps, self._device, how)

    def network_of(self, components: dict[str, nn.Module]) -> Any:
        """The network to denoise with: the only component. Raises PolicyError."""
        return _only_network(components)

    def predict(
        self, input_data: dict[str, Any], data_normalization_interface: Normalizer
    ) -> Chunk:
        """A chunk from the observation alone: (H, A) float32, robot units."""
        return self._infer([self._row(input_data, data_normalization_interface)])[0]

    def guided_inference(
        self,
        input_data: dict[str, Any],
        data_normalization_interface: Normalizer,
        min_num_actions_executed: int,
        action_chunk_size: int,
    ) -> Chunk:
        """A chunk that agrees with "prev_action" where Eq. 5 says so: (H, A) float32, robot units.

        Guided in normalised space. Raises PolicyError for a leftover or a chunk size of another
        shape than the network's, or a leftover without its "est_delay".
        """
        H = self._shape[0]
        if action_chunk_size != H:
            raise PolicyError(
                f"action_chunk_size is {action_chunk_size}, but the network's action_horizon is "
                f"{H}: set action_chunk_size in the runtime params to {H}"
            )
        normalizer = data_normalization_interface
        return self._infer([self._row(input_data, normalizer, min_num_actions_executed)])[0]

    def infer_many(
        self,
        asks: Sequence[tuple[dict[str, Any], int]],
        data_normalization_interface: Normalizer,
    ) -> list[Chunk | Exception]:
        """A chunk (H, A) float32, robot units, for each of `asks`, in their order.

        asks: (input_data, s) of each, guided where it has "prev_action". Those that can be are run
            together, as `batch_size` rows.
        An ask gets what it would get alone, to rounding, and with the noise that it would have
        drawn; where that would be an exception, this exception in place of its chunk. `latency` is
        the sum of what was run.
        """
        answers: dict[int, Chunk | Exception] = {}
        rows: dict[int, Row] = {}
        for i, (input_data, executed) in enumerate(asks):
            try:
                rows[i] = self._row(input_data, data_normalization_interface, executed)
            except Exception as error:
                answers[i] = error
        spent = dict.fromkeys(self.latency, 0)
        waiting = groups(rows) if self.batches else [[i] for i in rows]
        while waiting:
            group = waiting.pop()
            try:
                answers |= zip(group, self._infer([rows[i] for i in group]), strict=True)
            except Exception as error:
                if len(group) == 1:
                    answers[group[0]] = error
                else:
                    waiting += [[i] for i in group]  # whose fault it was will show
            else:
                spent = {part: ns + self.latency[part] for part, ns in spent.items()}
        self.latency = spent
        return [answers[i] for i in range(len(asks))]

    def warmup(self) -> None:
        """Run every path: free, guided, and behind a clean prefix if the network can. Other options
        compile at the pipeline's own warm-up."""
        self.warmup_many(1)

    def warmup_many(self, max_batch: int) -> None:
        """`warmup`, with every number of rows that up to `max_batch` asks are run as."""
        most = batch_size(max_batch) if self.batches else 1
        sizes = [2**i for i in range(most.bit_length())]
        leftover = {"prev_action": np.zeros(self._shape, np.float32), "est_delay": 1}
        example = example_input(self._network)
        examples = [example]
        if "action_context" in example:  # absent while nothing is being executed
            examples.append({k: v for k, v in example.items() if k != "action_context"})
        ways = [GuidanceOptions(), GuidanceOptions(prefix=True)][: 1 + ("prefix" in self.modes)]
        guides: list[dict[str, Any]] = [{}, *(leftover | {"guidance": way} for way in ways)]
        for observation in examples * WARMUP_RUNS:
            for guide in guides:
                row = self._row(observation | guide, Normalizer.identity(), 1)
                for size in sizes:
                    self._infer([row] * size)

    def freeze_all_model_params(self) -> None:
        """No parameter asks for a gradient: guidance is differentiated by x alone."""
        self._network.requires_grad_(False)

    def _infer(self, rows: Sequence[Row]) -> list[Chunk]:
        """A chunk (H, A) for each of the rows, which are of one group."""
        mark, between = self._stopwatch.mark, self._stopwatch.between
        with torch.inference_mode(), self._fast.precision():
            batch = stack(rows)
            started = mark()
            context = self._fast.encode(batch.observation)
            encoded = mark()
            x = self._fast.denoise(context, batch.noise, batch.guide, batch.options)
            if hasattr(self._network, "finish"):
                x = self._network.finish(context, x)
            denoised = mark()
            chunks = x[: len(rows), :, : self._shape[1]].float().cpu().numpy()  # waits
        self.latency = {
            "encode_ns": between(started, encoded),
            "denoise_ns": between(encoded, denoised),
        }
        return [
            np.ascontiguousarray(row.normalizer.denormalize_action(chunk), np.float32)
            for row, chunk in zip(rows, chunks, strict=True)
        ]

    @torch.inference_mode()  # as the steps make theirs: compiled code knows the difference
    def _row(
        self, input_data: dict[str, Any], normalizer: Normalizer, executed: int | None = None
    ) -> Row:
        """What is asked, on the device. executed: s; None: unguided. Raises PolicyError."""
        options = _options(input_data)
        tie = None
        if executed is not None and "prev_action" in input_data:
            tie = self._tie(input_data, executed, options)
        normalizer = self._anchored(normalizer, input_data)
        guide = None
        if tie is not None:
            leftover, weights = tie
            per_joint = np.repeat(weights[:, None], self._shape[1], axis=1)
            actions = normalizer.normalize_action(leftover)
            guide = Guide(self._padded(actions), self._padded(per_joint))
        observation = self._observation(input_data, normalizer)
        return Row(observation, self._noise(), guide, options, normalizer)

    def _tie(
        self, input_data: dict[str, Any], executed: int, options: GuidanceOptions
    ) -> tuple[Chunk, Weights]:
        """The leftover (H, A) in robot units, and its rows' weights (H,). Raises PolicyError."""
        H, A = self._shape
        leftover = np.asarray(input_data["prev_action"], np.float32)
        if leftover.shape != (H, A):
            raise PolicyError(
                f"prev_action must be {(H, A)}, the network's action_horizon and action_dim, got "
                f"{leftover.shape}: make the runtime params' action_chunk_size and action_dim agree"
            )
        if "est_delay" not in input_data:
            raise PolicyError("prev_action needs est_delay, d in rows, got est_delay = None")
        if options.prefix and "prefix" not in self.modes:
            raise PolicyError(
                f"{type(self._network).__name__} was not trained with clean prefixes (it has no "
                "row_times), so it cannot be run in the mode 'prefix': take 'rtc'"
            )
        weights = compute_guided_prefix_weights(
            input_data["est_delay"], executed, H, schedule=options.schedule
        )
        return leftover, weights

    def _anchored(self, normalizer: Normalizer, input_data: dict[str, Any]) -> Normalizer:
        """The network's own normaliser, else the one given, at the newest state. PolicyError."""
        state = np.asarray(input_data["proprio"], np.float32)[-1]
        state_dim = getattr(self._network, "state_dim", len(state))
        if len(state) != state_dim:
            raise PolicyError(
                f"the network's state_dim is {state_dim}, but it got a state of {len(state)}: make "
                "the runtime params' proprio_state_dim agree with it"
            )
        own: Normalizer | None = getattr(self._network, "normalizer", None)
        if own is not None and not normalizer.is_identity:
            raise PolicyError(
                f"{type(self._network).__name__} brings statistics of its own, which say too which "
                "actions are relative: take norm_stats_path and delta_actions out of the policy "
                "YAML, and norm_stats_file_path out of the runtime params"
            )
        return (own or normalizer).anchored(state)

    def _noise(self) -> Tensor:
        """(H, model_action_dim), a sample of N(0, I). Each row of a batch draws its own, so that it
        gets what it would get alone."""
        H, A = self._shape
        return torch.randn(
            (H, A + self._padding),
            generator=self._generator,
            dtype=self._dtype,
            device=self._device,
        )

    def _padded(self, rows: Chunk) -> Tensor:
        """(H, A) to (H, model_action_dim), with zeros."""
        return self._tensor(np.pad(rows, ((0, 0), (0, self._padding))))

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        """On the device. From pinned memory the copy is only begun here."""
        array = np.require(array, requirements=["C", "W"])  # what torch can share memory with
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _observation(self, input_data: dict[str, Any], normalizer: Normalizer) -> dict[str, Any]:
        observation = {}
        for key, value in input_data.items():
            if key in NOT_OBSERVED:
                continue
            if key == "proprio":
                value = normalizer.normalize_state(np.asarray(value, np.float32))
            if key == "action_context":
                value = normalizer.normalize_action(np.asarray(value, np.float32))
            observation[key] = self._tensor(value) if hasattr(value, "shape") else value
        return observation


def _options(input_data: dict[str, Any]) -> GuidanceOptions:
    options = input_data.get("guidance", GuidanceOptions())
    if not isinstance(options, GuidanceOptions):
        raise PolicyError(f"'guidance' must be GuidanceOptions, got {type(options).__name__}")
    return options


def _only_network(components: dict[str, nn.Module]) -> Any:
    if len(components) != 1:
        raise PolicyError(
            f"a flow policy has exactly one component, got {len(components)}: "
            f"{', '.join(components) or 'none'}"
        )
    ((name, network),) = components.items()
    missing = [attribute for attribute in DEMANDED if not hasattr(network, attribute)]
    if missing:
        raise PolicyError(
            f"component {name!r} ({type(network).__name__}) is no flow network: it lacks "
            f"{', '.join(missing)}"
        )
    return network


def example_input(network: Any) -> dict[str, Any]:
    """An `input_data` for it: its own `example_observation()`, else a random one of its shapes."""
    own = getattr(network, "example_observation", None)
    example: dict[str, Any] = random_observation(network) if own is None else own()
    return example


def random_observation(network: Any) -> dict[str, Any]:
    """An `input_data` of the shapes that the network's attributes tell."""
    random = np.random.default_rng(0)
    history = getattr(network, "proprio_history_size", 1)
    state_dim = getattr(network, "state_dim", network.action_dim)
    height, width = getattr(network, "image_height", 240), getattr(network, "image_width", 320)
    images = (getattr(network, "num_img_obs", 1), 3, height, width)
    observation: dict[str, Any] = {
        name: random.integers(0, 256, images, np.uint8)
        for name in getattr(network, "camera_names", ())
    }
    observation["proprio"] = random.standard_normal((history, state_dim)).astype(np.float32)
    return observation
