"""`type: flow`: any flow-matching network, with Real-Time Chunking.

The network is one module with
    action_horizon, action_dim       int, H and A
    encode(observation) → context    once per chunk; context may be anything
    velocity(context, x, tau) → v    once per step; x and v (B, H, A), tau (B,) from 0 to 1
and, optionally,
    model_action_dim                 the width of x and v in place of A, which it is not less than:
                                     what is beyond A is padding, which nothing pulls
    action_dtype                     torch.dtype of x; else that of the network's first parameter
    batches                          True: encode takes any batch B, no item of which changes
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
from torch import nn

from rt.arrays import Chunk
from rt.errors import PolicyError
from rt.infer.acceleration import Acceleration, FastNetwork
from rt.infer.batch import Item, batch_size, groups, stack
from rt.infer.example import example_input
from rt.infer.items import Items
from rt.infer.normalization import Normalizer
from rt.infer.policy import GuidanceOptions
from rt.infer.registry import POLICY_REGISTRY
from rt.infer.stopwatch import Stopwatch

DEMANDED = ("action_horizon", "action_dim", "encode", "velocity")
WARMUP_RUNS = 3


@POLICY_REGISTRY.register("flow")
class FlowPolicy:
    """Denoises a chunk in `num_inference_steps` steps, pulled to the leftover if there is one.

    num_inference_steps: n Euler steps. None: the network's own number, else 5.
    seed: of the noise, drawn anew for every chunk. None: a different one in every run.
    compile, bf16, cuda_graph, tf32: see `rt.infer.acceleration`.
    Raises PolicyError. Its attribute `batches` is whether its network takes several items at once.
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
        self._items = Items(self._network, seed)
        self._shape = self._items.shape
        self.modes = self._items.modes
        self.action_context_size = int(getattr(self._network, "action_context_size", 0))
        self.batches = bool(getattr(self._network, "batches", False))
        self._stopwatch = Stopwatch(self._items.device)
        how = Acceleration(compile, bf16, cuda_graph, tf32)
        self._fast = FastNetwork(self._network, num_inference_steps, self._items.device, how)

    def network_of(self, components: dict[str, nn.Module]) -> Any:
        """The network to denoise with: the only component. Raises PolicyError."""
        return _only_network(components)

    def predict(
        self, input_data: dict[str, Any], data_normalization_interface: Normalizer
    ) -> Chunk:
        """A chunk from the observation alone: (H, A) float32, robot units."""
        return self._infer([self._items.item(input_data, data_normalization_interface)])[0]

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
        return self._infer([self._items.item(input_data, normalizer, min_num_actions_executed)])[0]

    def infer_many(
        self,
        asks: Sequence[tuple[dict[str, Any], int]],
        data_normalization_interface: Normalizer,
    ) -> list[Chunk | Exception]:
        """A chunk (H, A) float32, robot units, for each of `asks`, in their order.

        asks: (input_data, s) of each, guided where it has "prev_action". Those that can be are run
            together, as `batch_size` items.
        An ask gets what it would get alone, to rounding, and with the noise that it would have
        drawn; where that would be an exception, this exception in place of its chunk. `latency` is
        the sum of what was run.
        """
        answers: dict[int, Chunk | Exception] = {}
        items: dict[int, Item] = {}
        for i, (input_data, executed) in enumerate(asks):
            try:
                items[i] = self._items.item(input_data, data_normalization_interface, executed)
            except Exception as error:
                answers[i] = error
        spent = dict.fromkeys(self.latency, 0)
        waiting = groups(items) if self.batches else [[i] for i in items]
        while waiting:
            group = waiting.pop()
            try:
                answers |= zip(group, self._infer([items[i] for i in group]), strict=True)
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
        """`warmup`, with every number of items that up to `max_batch` asks are run as."""
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
                item = self._items.item(observation | guide, Normalizer.identity(), 1)
                for size in sizes:
                    self._infer([item] * size)

    def freeze_all_model_params(self) -> None:
        """No parameter asks for a gradient: guidance is differentiated by x alone."""
        self._network.requires_grad_(False)

    def _infer(self, items: Sequence[Item]) -> list[Chunk]:
        """A chunk (H, A) for each of the items, which are of one group."""
        mark, between = self._stopwatch.mark, self._stopwatch.between
        with torch.inference_mode(), self._fast.precision():
            batch = stack(items)
            started = mark()
            context = self._fast.encode(batch.observation)
            encoded = mark()
            x = self._fast.denoise(context, batch.noise, batch.guide, batch.options)
            if hasattr(self._network, "finish"):
                x = self._network.finish(context, x)
            denoised = mark()
            chunks = x[: len(items), :, : self._shape[1]].float().cpu().numpy()  # waits
        self.latency = {
            "encode_ns": between(started, encoded),
            "denoise_ns": between(encoded, denoised),
        }
        return [
            np.ascontiguousarray(item.normalizer.denormalize_action(chunk), np.float32)
            for item, chunk in zip(items, chunks, strict=True)
        ]


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
