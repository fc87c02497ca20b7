"""Inference: policies, their mathematics, and the process that runs them.

The names below are loaded at first use, so that reading a policy's YAML does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt.infer.inpainting import compute_guided_prefix_weights as compute_guided_prefix_weights
    from rt.infer.inpainting import guided_action_chunk_inference as guided_action_chunk_inference
    from rt.infer.loader import build_policy as build_policy
    from rt.infer.policy import Policy as Policy
    from rt.infer.registry import POLICY_REGISTRY as POLICY_REGISTRY

_HOMES = {
    "POLICY_REGISTRY": "rt.infer.registry",
    "Policy": "rt.infer.policy",
    "build_policy": "rt.infer.loader",
    "compute_guided_prefix_weights": "rt.infer.inpainting",
    "guided_action_chunk_inference": "rt.infer.inpainting",
}
__all__ = tuple(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
