"""A flow network small enough for tests, and policies with something missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class TinyFlow(nn.Module):
    """v = W x + state + image + tau, with what it was shown kept in `seen`."""

    camera_names = ("head",)

    def __init__(self, *, action_dim: int = 2, action_horizon: int = 6, state_dim: int = 2) -> None:
        super().__init__()
        self.action_dim, self.action_horizon, self.state_dim = action_dim, action_horizon, state_dim
        self.linear = nn.Linear(action_dim, action_dim, bias=False)
        self.register_buffer("offset", torch.zeros(action_dim))
        self.image_height, self.image_width = 4, 6
        self.seen: dict[str, Any] = {}

    def encode(self, observation: dict[str, Any]) -> Tensor:
        self.seen = observation
        image = observation["head"].float().mean() / 255
        context: Tensor = observation["proprio"][:, -1] + image
        return context

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        v: Tensor = torch.tanh(self.linear(x)) + context[:, None] + tau[:, None, None]
        return v


class NoFlow(nn.Module):
    """Any other network."""


class Half:
    """A policy that cannot be guided, frozen or warmed up."""

    default_component_class = "tiny_flow.TinyFlow"

    def __init__(self, components: dict[str, nn.Module]) -> None:
        pass

    def predict(self, input_data: dict[str, Any], normalizer: Any) -> np.ndarray[Any, Any]:
        raise NotImplementedError


class NoDefault(Half):
    """A policy whose component YAML must name the class."""

    default_component_class = None  # type: ignore[assignment]
