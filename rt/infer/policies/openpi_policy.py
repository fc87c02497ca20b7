"""`type: openpi_policy`: a pi0 or pi0.5 of the `openpi` package. Not runnable yet.

The name is taken and its YAML is read, so that whoever has such a configuration is told what is
missing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch import nn

from rt.arrays import Chunk
from rt.errors import MissingPackageError, PolicyError
from rt.infer.normalization import Normalizer
from rt.infer.registry import POLICY_REGISTRY

REPOSITORY = "https://github.com/Physical-Intelligence/openpi"


def refuse() -> None:
    """Raises MissingPackageError without openpi, PolicyError with it."""
    if find_spec("openpi") is None:
        raise MissingPackageError(
            "policy type 'openpi_policy' needs the package openpi, which is not installed: "
            f"pip install git+{REPOSITORY}"
        )
    raise PolicyError(
        "policy type 'openpi_policy': openpi is installed, but this version of rt cannot run it "
        "yet: wrap the model in a policy of your own and name it with policy.type: package.module:"
        "Class"
    )


class OpenPiModel(nn.Module):
    """Stands where the model will. Takes any `params`, and refuses."""

    def __init__(self, **params: Any) -> None:
        super().__init__()
        refuse()


@POLICY_REGISTRY.register("openpi_policy")
class OpenPiPolicy:
    """Stands where the policy will. Every call refuses."""

    default_component_class = "rt.infer.policies.openpi_policy.OpenPiModel"

    def __init__(self, components: dict[str, nn.Module], **kwargs: Any) -> None:
        refuse()

    def predict(
        self, input_data: dict[str, Any], data_normalization_interface: Normalizer
    ) -> Chunk:
        raise NotImplementedError

    def guided_inference(
        self,
        input_data: dict[str, Any],
        data_normalization_interface: Normalizer,
        min_num_actions_executed: int,
        action_chunk_size: int,
    ) -> Chunk:
        raise NotImplementedError

    def warmup(self) -> None:
        raise NotImplementedError

    def freeze_all_model_params(self) -> None:
        raise NotImplementedError
