"""From what a robot asks to an item for the network: checked, normalised, on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rt.arrays import Chunk, Weights
from rt.errors import PolicyError
from rt.infer.batch import Item
from rt.infer.denoising import Guide
from rt.infer.inpainting import compute_guided_prefix_weights
from rt.infer.normalization import Normalizer
from rt.infer.policy import COMMON_MODES, GuidanceOptions

NOT_OBSERVED = ("guidance", "est_delay", "prev_action")  # keys of input_data that no network sees


class Items:
    """Makes the items of one flow network (rt.infer.policies.flow). seed: of their noise."""

    def __init__(self, network: Any, seed: int | None) -> None:
        self.shape = (int(network.action_horizon), int(network.action_dim))
        clean_prefix = getattr(network, "row_times", False)
        self.modes = (*COMMON_MODES, "prefix") if clean_prefix else COMMON_MODES
        self._network = network
        width = int(getattr(network, "model_action_dim", self.shape[1]))
        self._padding = width - self.shape[1]
        floats = (p for p in network.parameters() if p.is_floating_point())
        weight = next(floats, torch.zeros(()))
        self.device = weight.device
        self._dtype = getattr(network, "action_dtype", weight.dtype)
        self._generator = torch.Generator(self.device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    @torch.inference_mode()  # as the steps make theirs: compiled code knows the difference
    def item(
        self, input_data: dict[str, Any], normalizer: Normalizer, executed: int | None = None
    ) -> Item:
        """What is asked, on the device. executed: s; None: unguided. Raises PolicyError."""
        options = _options(input_data)
        tie = None
        if executed is not None and "prev_action" in input_data:
            tie = self._tie(input_data, executed, options)
        normalizer = self._anchored(normalizer, input_data)
        guide = None
        if tie is not None:
            leftover, weights = tie
            per_joint = np.repeat(weights[:, None], self.shape[1], axis=1)
            actions = normalizer.normalize_action(leftover)
            guide = Guide(self._padded(actions), self._padded(per_joint))
        observation = self._observation(input_data, normalizer)
        return Item(observation, self._noise(), guide, options, normalizer)

    def _tie(
        self, input_data: dict[str, Any], executed: int, options: GuidanceOptions
    ) -> tuple[Chunk, Weights]:
        """The leftover (H, A) in robot units, and its rows' weights (H,). Raises PolicyError."""
        H, A = self.shape
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
        """(H, model_action_dim), a sample of N(0, I). Each item of a batch draws its own, and so
        gets what it would get alone."""
        H, A = self.shape
        return torch.randn(
            (H, A + self._padding),
            generator=self._generator,
            dtype=self._dtype,
            device=self.device,
        )

    def _padded(self, rows: Chunk) -> Tensor:
        """(H, A) to (H, model_action_dim), with zeros."""
        return self._tensor(np.pad(rows, ((0, 0), (0, self._padding))))

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        """On the device. From pinned memory the copy is only begun here."""
        array = np.require(array, requirements=["C", "W"])  # what torch can share memory with
        return torch.from_numpy(array).to(self.device, non_blocking=True)

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
