"""A vision-language-action model in miniature: a prefix with a KV cache, an expert that attends it.

The prefix is what SmolVLA's is: keys and values of every layer, made once per observation. The
expert's rows attend the cache and one another.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Cache = list[tuple[Tensor, Tensor]]


class PrefixTransformer(nn.Module):
    """`encode` gives the cache, `velocity` reads it. `prefixes` counts the former."""

    def __init__(
        self, *, action_dim: int, action_horizon: int, state_dim: int, model_action_dim: int
    ) -> None:
        super().__init__()
        self.action_dim, self.action_horizon, self.state_dim = action_dim, action_horizon, state_dim
        self.model_action_dim = model_action_dim
        self.prefixes = 0
        width = 16
        self.vlm = Vlm(width)
        self.into = nn.Linear(model_action_dim + 1, width)
        self.queries = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.out = nn.Linear(width, model_action_dim)

    def encode(self, observation: dict[str, Any]) -> Cache:
        """A (keys, values) of (B, state_dim, width) for every layer."""
        self.prefixes += 1
        cache: Cache = self.vlm(observation["proprio"][:, -1, :, None])
        return cache

    def velocity(self, context: Cache, x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, model_action_dim)."""
        time = tau[:, None, None].expand(*x.shape[:2], 1)
        rows = self.into(torch.cat([x, time], dim=-1))
        for layer, (keys, values) in zip(self.queries, context, strict=True):
            query, key, value = layer(rows).chunk(3, dim=-1)
            attended = F.scaled_dot_product_attention(
                query, torch.cat([keys, key], 1), torch.cat([values, value], 1)
            )
            rows = torch.tanh(rows + attended)
        v: Tensor = self.out(rows)
        return v


class Vlm(nn.Module):
    """The prefix, a token for each number of the state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens = nn.Linear(1, width)
        self.layers = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))

    def forward(self, numbers: Tensor) -> Cache:
        tokens, cache = torch.tanh(self.tokens(numbers)), []
        for layer in self.layers:
            keys, values = layer(tokens).chunk(2, dim=-1)
            cache.append((keys, values))
            tokens = torch.tanh(tokens + values)
        return cache
