"""A flow whose actions go one of two ways, exact: what every chunk boundary is about."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rt.infer.normalization import Normalizer


class TwoWays(nn.Module):
    """Half of its chunks are `way` rad in every row and joint, half −`way`, about `about` rad.

    The clean chunk's mean given x at tau is way · tanh(way · sum(tau x / (1−tau)²)), and the
    velocity follows from it: nothing is learned. With `row_times` each row has its own tau, and a
    clean row settles the way for all.
    """

    def __init__(
        self,
        *,
        action_horizon: int,
        action_dim: int,
        row_times: bool = False,
        way: float = 1.0,
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__()
        self.action_horizon, self.action_dim = action_horizon, action_dim
        self.state_dim = action_dim
        self.row_times = row_times
        self.normalizer = normalizer
        self.way = way
        self.encoded = 0

    def encode(self, observation: dict[str, Any]) -> Tensor:
        self.encoded += 1
        state: Tensor = observation["proprio"][:, -1]
        return state

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        tau = tau.expand(x.shape[0], -1) if tau.ndim == 2 else tau[:, None]
        rest = (1 - tau).clamp(min=0.05)[..., None]
        evidence = (tau[..., None] * x / rest**2).sum((1, 2), keepdim=True)
        v: Tensor = (self.way * torch.tanh(self.way * evidence) - x) / rest
        return v
