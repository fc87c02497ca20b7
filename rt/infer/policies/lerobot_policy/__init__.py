"""`type: lerobot_policy`: SmolVLA, pi0 and pi0.5 of the `lerobot` package, guided by our RTC.

lerobot's time t runs from 1 (noise) to 0 (actions), and its velocity is noise − actions. Ours run
the other way: tau = 1 − t, v = −v_theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from rt.errors import PolicyError
from rt.infer.example import random_observation
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policies.lerobot_policy.checkpoint import load_checkpoint
from rt.infer.registry import POLICY_REGISTRY


@POLICY_REGISTRY.register("lerobot_policy")
class LeRobotPolicy(FlowPolicy):
    """A flow policy whose one component is a lerobot checkpoint. Keywords: FlowPolicy's."""

    default_component_class = "rt.infer.policies.lerobot_policy.LeRobotModel"


class LeRobotModel(nn.Module):
    """lerobot's policy as a flow network: `encode` is its VLM's prefix, `velocity` one
    `denoise_step` over the prefix's keys and values."""

    def __init__(
        self,
        *,
        pretrained_path: str,
        state_dim: int,
        action_dim: int,
        action_horizon: int,
        camera_map: dict[str, str],
        absent_cameras: Sequence[str] = (),
        default_prompt: str = "",
        revision: str | None = None,
        vlm_path: str | None = None,
    ) -> None:
        """pretrained_path: a folder that lerobot saved, or owner/name on the hub.
        state_dim, action_dim, action_horizon: the checkpoint's; what the robot's are checked with.
        camera_map: our camera → the checkpoint's image feature ("observation.images.…").
        absent_cameras: image features that this robot has no camera for; lerobot does without.
        default_prompt: for observations without a prompt.
        revision: of the checkpoint, on the hub.
        vlm_path: a folder with the VLM's config and tokenizer, for a machine without the hub.
        Raises MissingPackageError, CheckpointError and PolicyError.
        """
        super().__init__()
        checkpoint = load_checkpoint(pretrained_path, revision=revision, vlm_path=vlm_path)
        config = checkpoint.policy.config
        _check("state_dim", state_dim, config.robot_state_feature.shape[0])
        _check("action_dim", action_dim, config.action_feature.shape[0])
        _check("action_horizon", action_horizon, config.chunk_size)
        _check_cameras(camera_map, absent_cameras, config.image_features)
        self.policy: Any = checkpoint.policy
        self.normalizer = checkpoint.normalizer
        self.state_dim, self.action_dim, self.action_horizon = state_dim, action_dim, action_horizon
        self.model_action_dim = int(config.max_action_dim)
        self.camera_names = tuple(camera_map)
        self._camera_map = dict(camera_map)
        self._prompt = default_prompt
        self._preprocess = checkpoint.preprocess
        self._denoise_step = self.policy.model.denoise_step
        self.policy.model.denoise_step = self._record_prefix
        self._prefix: dict[str, Any] = {}

    def encode(self, observation: dict[str, Any]) -> dict[str, Any]:
        """What lerobot's `denoise_step` is given besides x and t: tensors, and the keys and values
        of the prefix, per layer. lerobot's own sampler runs, with its denoising step stood in for.
        """
        if unseen := [name for name in self._camera_map if name not in observation]:
            raise PolicyError(
                f"params.camera_map names {', '.join(unseen)}, which the robot has not: expected "
                "names of its camera_names"
            )
        state = observation["proprio"][:, -1]
        batch = {"observation.state": state, "task": observation.get("prompt") or self._prompt}
        for name, feature in self._camera_map.items():
            batch[feature] = observation[name][:, -1].float() / 255
        batch = {
            key: value.to(state.device) if isinstance(value, Tensor) else value
            for key, value in self._preprocess(batch).items()
        }
        noise = state.new_zeros(len(state), self.action_horizon, self.model_action_dim)
        self.policy.predict_action_chunk(batch, noise=noise)
        prefix, self._prefix = self._prefix, {}
        return prefix | {"past_key_values": _plain(prefix["past_key_values"])}

    def velocity(self, context: dict[str, Any], x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, model_action_dim): dx/dtau at `x` and `tau` (B,)."""
        cache = _cache(context["past_key_values"])
        inputs = context | {"past_key_values": cache, "x_t": x, "timestep": 1 - tau}
        v: Tensor = self._denoise_step(**inputs)
        return -v

    def example_observation(self) -> dict[str, Any]:
        """For warm-up."""
        return random_observation(self) | {"prompt": self._prompt}

    def _record_prefix(self, *, x_t: Tensor, timestep: Tensor, **prefix: Any) -> Tensor:
        """Stands in for `denoise_step` while lerobot's sampler runs, to learn its prefix."""
        self._prefix = prefix
        return torch.zeros_like(x_t)


def _plain(cache: Any) -> Any:
    """The prefix's keys and values as tensors alone, which a CUDA graph can be given.

    lerobot 0.4 keeps them in a dict, newer ones in a cache of transformers."""
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    return cache


def _cache(plain: Any) -> Any:
    """What lerobot's denoising step takes. A cache is made anew for every step, because the step
    appends to it; a dict it only reads."""
    if isinstance(plain, dict):
        return plain
    cache = import_module("transformers").DynamicCache()
    for index, (keys, values) in enumerate(plain):
        cache.update(keys, values, index)
    return cache


def _check(name: str, declared: int, checkpoint: int) -> None:
    if declared != checkpoint:
        raise PolicyError(
            f"params.{name} is {declared}, but the lerobot checkpoint's is {checkpoint}: set both "
            "the component's and the robot's to that, or take another checkpoint"
        )


def _check_cameras(
    camera_map: Mapping[str, str], absent_cameras: Sequence[str], features: Iterable[str]
) -> None:
    wanted = sorted(feature for feature in features if ".empty_camera_" not in feature)
    if not camera_map or sorted([*camera_map.values(), *absent_cameras]) != wanted:
        raise PolicyError(
            "params.camera_map must name a camera for every image feature of the lerobot "
            f"checkpoint ({', '.join(wanted)}) that params.absent_cameras does not name, got "
            f"{dict(camera_map)} and {list(absent_cameras)}"
        )
