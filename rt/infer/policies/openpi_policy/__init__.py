"""`type: openpi_policy`: pi0 and pi0.5 in PyTorch, of the package `openpi`, with our guidance.

openpi does what is its own: it reads the checkpoint, turns an observation into the model's inputs
(images, prompt, the state in its units), embeds them once per chunk and evaluates the velocity.
Actions are ours from noise to robot units, since guidance pulls in the model's units: normalised,
and relative to the state where the checkpoint says so. At load our way from the model's units to
the robot's is compared with openpi's own output transforms; where they differ nothing moves.

openpi's time runs from 1 (noise) to 0 (actions), and its velocity toward the noise: t = 1 − tau,
v = −v_openpi. Component: see `OpenPiNetwork`; docs/policies_openpi.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rt.errors import ConfigError, PolicyError
from rt.infer.example import random_observation
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policies.openpi_policy.checkpoint import (
    Precision,
    import_openpi,
    open_checkpoint,
)
from rt.infer.policies.openpi_policy.inputs import batch_of_one
from rt.infer.registry import POLICY_REGISTRY
from rt.wire.openpi import CAMERA_MAP, openpi_observation

Layer = tuple[Tensor, Tensor]  # keys and values, (B, heads, tokens, head_dim) each
Context = tuple[Tensor, Tensor, tuple[Layer, ...]]  # state, prefix mask, the prefix's layers


class PrefixCache(tuple[Layer, ...]):
    """Keys and values of the prefix as openpi's expert reads them; it never writes them."""

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the prefix."""
        return int(self[layer_idx][0].shape[-2])


class OpenPiNetwork(nn.Module):
    """A PI0Pytorch as FlowPolicy's network.

    train_config_name: in openpi's `training/config.py`, or your fork's.
    ckpt_dir: folder with model.safetensors and assets/.
    action_dim: A, the robot's joints; the model's own 32 columns are padding beyond.
    action_horizon: H, must be the train config's.
    default_prompt: used while the runtime has no prompt.
    num_inference_steps: n Euler steps, where the policy's YAML says none.
    state_dim: default action_dim.
    camera_map: camera name → key under which the train config's input transforms look for it; dots
        nest (`images.cam_high`). All of them `IMAGE_KEYS`: a config that transforms no cameras.
    state_key: where the train config's input transforms look for the state.
    precision: bfloat16, as openpi runs it, or float32.

    Raises MissingPackageError, ConfigError, CheckpointError and PolicyError.
    """

    def __init__(
        self,
        *,
        train_config_name: str,
        ckpt_dir: str,
        action_dim: int,
        action_horizon: int,
        default_prompt: str | None = None,
        num_inference_steps: int = 10,
        state_dim: int | None = None,
        camera_map: dict[str, str] | None = None,
        state_key: str = "state",
        precision: Precision = "bfloat16",
    ) -> None:
        super().__init__()
        self.action_dim, self.action_horizon = action_dim, action_horizon
        self.action_dtype = torch.float32  # its actions and action layers, whatever the rest is
        self.state_dim = action_dim if state_dim is None else state_dim
        self.num_inference_steps = num_inference_steps
        self._camera_map = CAMERA_MAP if camera_map is None else camera_map
        self.camera_names = tuple(self._camera_map)
        self._state_key = state_key
        self._checkpoint = checkpoint = open_checkpoint(
            train_config_name,
            ckpt_dir,
            state_dim=self.state_dim,
            action_dim=action_dim,
            default_prompt=default_prompt,
        )
        self.normalizer, self.model_action_dim = checkpoint.normalizer, checkpoint.model_action_dim
        if action_horizon != checkpoint.action_horizon:
            raise ConfigError(
                f"params.action_horizon is {action_horizon}, but openpi's train config "
                f"{checkpoint.name!r} has {checkpoint.action_horizon}: set it, and the runtime's "
                f"action_chunk_size, to {checkpoint.action_horizon}"
            )
        self._check_transforms()
        self.model: Any = checkpoint.load_model(precision)
        self._attends = import_openpi("models_pytorch.pi0_pytorch").make_att_2d_masks
        self._as_observation = import_openpi("models.model").Observation.from_dict
        # As openpi sets it whenever it runs the prefix: its masks are for its eager attention.
        towers = self.model.paligemma_with_expert
        towers.paligemma.language_model.config._attn_implementation = "eager"

    def encode(self, observation: dict[str, Any]) -> Context:
        """Images, prompt and state through the vision-language model, once per chunk.

        "proprio" (1, history, state_dim) in robot units and cameras (1, n, 3, height, width) uint8,
        newest last: the newest of each is what the model sees.
        """
        model = self.model
        *seen_and_said, state = self._model_inputs(observation)
        tokens, mask, blocks = model.embed_prefix(*seen_and_said)
        towers = model.paligemma_with_expert
        _, cache = towers.forward(
            attention_mask=model._prepare_attention_masks_4d(self._attends(mask, blocks)),
            position_ids=mask.cumsum(dim=1) - 1,
            past_key_values=None,
            inputs_embeds=[tokens, None],
            use_cache=True,
        )
        return state, mask, tuple((layer[0], layer[1]) for layer in cache)

    def velocity(self, context: Context, x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, model_action_dim): dx/dtau at `x` and `tau` (B,), one pass of the expert."""
        state, mask, layers = context
        v: Tensor = self.model.denoise_step(state, mask, PrefixCache(layers), x, 1 - tau)
        return -v

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _model_inputs(self, observation: dict[str, Any]) -> Any:
        """Images, their masks, tokens, their mask, and the state; each a batch of one.

        Not for torch.compile: PIL, a tokenizer, numpy.
        """
        arrays = {
            key: value[0].cpu().numpy() if isinstance(value, Tensor) else value
            for key, value in observation.items()
        }
        data = openpi_observation(arrays, self._camera_map, self._state_key)
        inputs = batch_of_one(self._checkpoint.inputs(data), observation["proprio"].device)
        return self.model._preprocess_observation(self._as_observation(inputs), train=False)

    def _check_transforms(self) -> None:
        """Run openpi's transforms once each way, and ours beside them. Raises PolicyError."""
        checkpoint, example = self._checkpoint, random_observation(self)
        chunk = np.random.default_rng(0).standard_normal(
            (self.action_horizon, self.model_action_dim)
        )
        try:
            data = openpi_observation(example, self._camera_map, self._state_key)
            state = np.asarray(checkpoint.inputs(data)["state"], np.float64)
            theirs = checkpoint.outputs({"state": state, "actions": chunk.copy()})["actions"]
        except Exception as error:  # whatever a train config's own transforms raise
            raise PolicyError(
                f"the transforms of openpi's train config {checkpoint.name!r} refuse this robot's "
                f"observation ({type(error).__name__}: {error}): cameras are given as "
                f"{', '.join(self._camera_map.values())}, the state ({self.state_dim},) as "
                f"{self._state_key}: mend camera_map, state_key, state_dim or default_prompt"
            ) from error
        if theirs.shape[-1] == self.model_action_dim:  # a config that leaves the padding on
            theirs = theirs[:, : self.action_dim]
        if theirs.shape[-1] != self.action_dim:
            raise PolicyError(
                f"openpi's train config {checkpoint.name!r} gives {theirs.shape[-1]} joints, but "
                f"action_dim is {self.action_dim}"
            )
        normalizer = self.normalizer.anchored(example["proprio"][-1])
        ours = normalizer.denormalize_action(chunk[:, : self.action_dim])
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
            raise PolicyError(
                f"the output transforms of openpi's train config {checkpoint.name!r} do more than "
                "undo the normalisation and add the state, so a leftover cannot be brought into "
                "the model's units: leave them out (adapt_to_pi=False, say) or wrap the model in a "
                "policy of your own"
            )


@POLICY_REGISTRY.register("openpi_policy")
class OpenPiPolicy(FlowPolicy):
    """A flow policy whose one component is an openpi checkpoint. Keywords: FlowPolicy's."""

    default_component_class = "rt.infer.policies.openpi_policy.OpenPiNetwork"
