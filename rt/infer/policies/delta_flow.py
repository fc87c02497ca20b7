"""`type: delta_flow`: a flow policy with a delta expert over its prefix (rt.infer.delta_expert).

Two components: `flow`, any network of rt.infer.policies.flow, and `delta`, a DeltaExpert. The flow
policy then runs both of them as one network, a `DeltaFlow`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rt.errors import PolicyError
from rt.infer.delta_expert import Correction, DeltaExpert, WithoutContext, delta_loss
from rt.infer.denoising import guided_denoise
from rt.infer.example import example_input
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policies.flow_model import Mixer
from rt.infer.registry import POLICY_REGISTRY

# 1 - tau is never taken smaller: a clean prefix's rows have tau = 1, and nobody moves them. Any
# number of steps up to its inverse ends at the expert's chunk.
MIN_REMAINING = 1e-3


class DeltaContext(NamedTuple):
    """What `DeltaFlow.encode` makes of an observation."""

    prefix: Any  # of the policy's own network, cached
    encoded: Tensor | None  # (B, H, A), the action context or zeros; None: nothing is corrected
    chunk: Tensor | None  # (B, H, A), the expert's, where it replaces the policy's


class DeltaFlow(nn.Module):
    """A flow network whose chunk a delta expert replaces or corrects; itself a flow network.

    Whatever is not said here (shapes, normaliser, cameras) is the policy's own network's, which
    is frozen, in training too.
    """

    row_times = False  # whatever the network's: the expert would move a clean prefix's rows

    def __init__(self, network: nn.Module, delta: DeltaExpert) -> None:
        """Raises PolicyError if the two make chunks of other shapes."""
        super().__init__()
        self.network: Any = network.requires_grad_(False)
        self.delta = delta
        self.action_context_size = delta.context_rows
        width = getattr(network, "model_action_dim", network.action_dim)
        shapes = delta.shape, (self.action_horizon, width)
        if shapes[0] != shapes[1]:
            raise PolicyError(
                f"the delta expert makes chunks of {shapes[0]}, but the flow network's are "
                f"{shapes[1]}: mend action_horizon and action_dim in the delta component's params"
            )

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def example_observation(self) -> dict[str, Any]:
        """An `input_data` with an action context, for warm-up."""
        rows = np.zeros((self.action_context_size, self.action_dim), np.float32)
        return {**example_input(self.network), "action_context": rows}

    def encode(self, observation: dict[str, Any]) -> DeltaContext:
        """The network's prefix, and what the expert makes of it and of "action_context"."""
        seen = {key: value for key, value in observation.items() if key != "action_context"}
        prefix = self.network.encode(seen)
        action_context = observation.get("action_context")
        if action_context is None and self.delta.without_context == "keep":
            return DeltaContext(prefix, None, None)
        encoded = self.delta.encode(action_context, like=observation["proprio"])
        replaces = self.delta.correction == "replace"
        chunk = self.delta.chunk(prefix, encoded) if replaces else None
        return DeltaContext(prefix, encoded, chunk)

    def velocity(self, context: DeltaContext, x: Tensor, tau: Tensor) -> Tensor:
        """The network's velocity; where its chunk is replaced, the one straight to the expert's,
        which costs nothing and which any number of Euler steps takes to its end."""
        if context.chunk is None:
            v: Tensor = self.network.velocity(context.prefix, x, tau)
            return v
        remaining = (1 - tau).clamp(min=MIN_REMAINING).view(len(x), -1, 1)
        return (context.chunk - x) / remaining

    def finish(self, context: DeltaContext, x: Tensor) -> Tensor:
        """(B, H, A): the denoised chunk, corrected if that is what the expert does."""
        if context.encoded is None or context.chunk is not None:
            return x
        return self.delta.chunk(context.prefix, context.encoded, x)

    def forward_delta_expert(
        self,
        batch: dict[str, Any],
        action_context: Tensor | None = None,
        *,
        num_inference_steps: int = 5,
    ) -> tuple[Tensor, dict[str, float]]:
        """What to minimise in training, and its parts: see `delta_loss`.

        batch: an observation as for `encode`, and
          "action"         (B, H, a) normalised: what the chunk should have been
          "action_is_pad"  (B, H) bool, optional: rows past the end of the recording
          "prefix"         of an earlier `encode` by the network, optional: it is frozen, so one
                           encoding of each sample will do
        action_context: (B, N, a) normalised, the rows that were about to be executed when the
            observation was made. None: zeros, as at inference while nothing is being executed.
        num_inference_steps: of the policy's own denoising, for an expert that corrects it.
        """
        batch = dict(batch)
        actions, is_pad = batch.pop("action"), batch.pop("action_is_pad", None)
        prefix = batch.pop("prefix", None)
        if prefix is None:
            prefix = self.network.encode(batch)
        denoised = None
        if self.delta.correction == "add":
            noise = torch.randn(len(actions), *self.delta.shape).to(actions)
            velocity = partial(self.network.velocity, prefix)
            denoised = guided_denoise(velocity, noise, num_inference_steps)
        encoded = self.delta.encode(action_context, like=actions)
        chunk = self.delta.chunk(prefix, encoded, denoised)
        return delta_loss(chunk, actions, self.action_context_size, is_pad)


class MixerDelta(DeltaExpert):
    """A delta expert whose expert is a second mixer of the demonstration policy's network."""

    def __init__(
        self,
        *,
        action_dim: int,
        action_horizon: int,
        context_dim: int,
        rows_per_token: int,
        width: int,
        depth: int,
        hidden_size: int,
        context_rows: int,
        correction: Correction,
        without_context: WithoutContext,
    ) -> None:
        """What Mixer takes, `context_dim` being the prefix's, and what DeltaExpert takes."""
        mixer = MixerExpert(
            action_dim=action_dim,
            action_horizon=action_horizon,
            context_dim=context_dim,
            rows_per_token=rows_per_token,
            width=width,
            depth=depth,
        )
        super().__init__(
            mixer,
            action_dim=action_dim,
            action_horizon=action_horizon,
            hidden_size=hidden_size,
            context_rows=context_rows,
            correction=correction,
            without_context=without_context,
        )


class MixerExpert(Mixer):
    """A mixer that tells the velocity itself, which begins at 0: an untrained expert that corrects
    changes nothing."""

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, A), not divided by 1 − tau: the expert steps at one tau only."""
        return self.clean(context, x, tau)


@POLICY_REGISTRY.register("delta_flow")
class DeltaFlowPolicy(FlowPolicy):
    """`flow`'s keywords and modes, over a `DeltaFlow`. Raises PolicyError."""

    def network_of(self, components: dict[str, nn.Module]) -> DeltaFlow:
        """Both components, as one network. Raises PolicyError."""
        flow, delta = components.get("flow"), components.get("delta")
        if len(components) != 2 or flow is None or not isinstance(delta, DeltaExpert):
            got = ", ".join(f"{name} ({type(c).__name__})" for name, c in components.items())
            raise PolicyError(
                "a delta_flow policy has the components flow, a flow network, and delta, a "
                f"DeltaExpert, got {got or 'none'}"
            )
        return DeltaFlow(super().network_of({"flow": flow}), delta)
