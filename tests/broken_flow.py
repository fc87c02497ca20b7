"""A flow network for IGRIS_B with one fault, and a policy class that answers nonsense."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FAULTS = {
    "none": lambda v: v,
    "nan": lambda v: v * torch.nan,
    "one joint more": lambda v: torch.cat([v, v[..., :1]], dim=-1),
    "one row": lambda v: v[:, :1],
    "no batch": lambda v: v[0],
    "whole numbers": lambda v: v.int(),
    "a tuple": lambda v: (v,),
    "an array": lambda v: v.numpy(),
    "double": lambda v: v.double(),
}


class BrokenFlow(nn.Module):
    """Stays where it is, but for `fault`, from its `since`-th chunk on."""

    def __init__(
        self,
        *,
        fault: str = "none",
        since: int = 0,
        joints: int = 24,
        rows: int = 50,
        states: int = 24,
    ) -> None:
        super().__init__()
        self.action_dim, self.action_horizon, self.state_dim = joints, rows, states
        self.mix = nn.Linear(states, joints)
        nn.init.eye_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)
        self._fault, self._since, self._chunks = FAULTS[fault], since, 0

    def encode(self, observation: dict[str, Any]) -> Tensor:
        self._chunks += 1
        context: Tensor = self.mix(observation["proprio"][:, -1])
        return context

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Any:
        v = (context[:, None] - x) / (1 - tau)[:, None, None]
        return self._fault(v) if self._chunks > self._since else v


class Answers:
    """A policy that gives `answer` for a chunk."""

    default_component_class = "broken_flow.BrokenFlow"

    def __init__(self, components: dict[str, nn.Module], *, answer: str) -> None:
        chunk = np.zeros((50, 24), np.float32)
        self._answer = {
            "too short": chunk[:40],
            "too narrow": chunk[:, :23],
            "a batch": chunk[None],
            "whole numbers": chunk.astype(np.int64),
            "a list": chunk.tolist(),
            "a tensor": torch.zeros(50, 24),
            "nothing": None,
        }[answer]

    def predict(self, input_data: dict[str, Any], normalizer: Any) -> Any:
        return self._answer

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Any, executed: int, horizon: int
    ) -> Any:
        return self._answer

    def warmup(self) -> None:
        """Nothing to warm."""

    def freeze_all_model_params(self) -> None:
        """Nothing to freeze."""
