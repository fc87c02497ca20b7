"""The comparison's flow network: small enough that 512 episodes run at once on one core.

It predicts the clean chunk; the velocity follows from it. One architecture serves both
checkpoints: the time is given to it row by row, whether the rows' times differ (`row_times`,
training-time RTC) or not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_REMAINING = 0.1  # 1 - tau is never taken smaller: v = (x1 - x) / (1 - tau) stays finite


class CompareNetwork(nn.Module):
    """v(x, tau | observation) over chunks of H rows by A velocities, normalised."""

    def __init__(
        self,
        *,
        state_dim: int,
        action_dim: int,
        action_horizon: int,
        row_times: bool = False,
        width: int = 192,
        depth: int = 3,
    ) -> None:
        """`row_times`: trained with clean prefixes of any length, so tau may differ by row."""
        super().__init__()
        self.state_dim, self.action_dim = state_dim, action_dim
        self.action_horizon, self.row_times = action_horizon, row_times
        self.context = nn.Sequential(nn.Linear(state_dim, width), nn.SiLU())
        self.embed = nn.Linear(action_horizon * (action_dim + 1), width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, action_horizon * action_dim)

    def encode(self, observation: dict[str, Tensor]) -> Tensor:
        """(B, width), from "proprio" (B, history, state_dim), normalised."""
        context: Tensor = self.context(observation["proprio"][:, -1])
        return context

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, A): dx/dtau at `x` (B, H, A) and `tau` (B,) or (B, H)."""
        times = tau.expand(self.action_horizon, -1).T if tau.ndim == 1 else tau
        remaining = (1 - times).clamp(min=MIN_REMAINING)[..., None]
        return (self.clean(context, x, times) - x) / remaining

    def clean(self, context: Tensor, x: Tensor, times: Tensor) -> Tensor:
        """(B, H, A): the guess of the actions at tau = 1; `times` (B, H)."""
        hidden = self.embed(torch.cat([x.flatten(1), times], dim=1)) + context
        for block in self.blocks:
            hidden = block(hidden, context)
        guess: Tensor = self.head(hidden).reshape(x.shape)
        return guess


class Block(nn.Module):
    """A residual layer that is told the context again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = nn.Linear(width, 2 * width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.film(context).chunk(2, dim=-1)
        out: Tensor = hidden + self.mlp(self.norm(hidden) * (1 + scale) + shift)
        return out
