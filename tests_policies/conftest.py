"""lerobot without network, and beside a torch that has no CUDA."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
if torch.version.cuda is None:
    # torchvision's wheel is built for CUDA, and beside a torch without it does not register these,
    # but describes them all the same, which fails. Nothing here calls them.
    for op in ("nms", "qnms"):
        torch.library.define(f"torchvision::{op}", "(Tensor a, Tensor b, float c) -> Tensor")
with warnings.catch_warnings(action="ignore"):  # of lerobot's and its dependencies' imports
    import tiny_smolvla


@pytest.fixture(scope="session")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stands in for the VLM on the hub."""
    folder = tmp_path_factory.mktemp("vlm")
    tiny_smolvla.write_vlm(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lerobot checkpoint. Not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_smolvla.write_checkpoint(folder, vlm)
    return folder


@pytest.fixture
def policy_yaml(tmp_path: Path) -> Callable[..., Path]:
    """`policy_yaml(checkpoint, **params)`: a policy YAML whose component is that checkpoint."""

    def write(checkpoint: Path, **params: Any) -> Path:
        import yaml

        component = {
            "params": {
                "pretrained_path": str(checkpoint),
                "state_dim": tiny_smolvla.STATE_DIM,
                "action_dim": tiny_smolvla.ACTION_DIM,
                "action_horizon": tiny_smolvla.HORIZON,
                "camera_map": dict(zip(("head", "hand"), tiny_smolvla.FEATURES, strict=True)),
            }
            | params
        }
        (tmp_path / "component.yaml").write_text(yaml.safe_dump(component))
        path = tmp_path / "policy.yaml"
        path.write_text(
            "model: {component_config_paths: {vla: component.yaml}}\n"
            "policy: {type: lerobot_policy, num_inference_steps: 5, seed: 0}\n"
        )
        return path

    return write
