"""Shapes of a pi0 or pi0.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import safetensors.torch


@dataclass(frozen=True)
class Pi0Config:
    dtype: str = "bfloat16"
    action_dim: int = 8
    action_horizon: int = 6
    max_token_len: int = 48
    pi05: bool = False

    def load_pytorch(self, train_config: Any, weight_path: str) -> Any:
        from openpi.models_pytorch import pi0_pytorch

        model = pi0_pytorch.PI0Pytorch(config=train_config.model)
        safetensors.torch.load_model(model, weight_path)
        return model
