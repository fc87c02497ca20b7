"""One call from an observation to a chunk, both in robot units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from openpi import transforms as _transforms
from openpi.models.model import Observation


class Policy:
    def __init__(
        self,
        model: Any,
        *,
        transforms: Sequence[_transforms.Transform] = (),
        output_transforms: Sequence[_transforms.Transform] = (),
        sample_kwargs: dict[str, Any] | None = None,
        pytorch_device: str = "cpu",
        is_pytorch: bool = False,
    ) -> None:
        assert is_pytorch
        self._model = model.to(pytorch_device).eval()
        self._inputs = _transforms.compose(transforms)
        self._outputs = _transforms.compose(output_transforms)
        self._sample_kwargs = sample_kwargs or {}
        self._device = pytorch_device

    def infer(self, obs: dict[str, Any], *, noise: Any = None) -> dict[str, Any]:
        inputs = self._batch(self._inputs(dict(obs)))
        chunk = self._model.sample_actions(
            self._device,
            Observation.from_dict(inputs),
            noise=torch.from_numpy(noise)[None],
            **self._sample_kwargs,
        )
        state = np.asarray(inputs["state"][0])
        return self._outputs({"state": state, "actions": np.asarray(chunk[0])})

    def _batch(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._batch(inner) for key, inner in value.items()}
        return torch.from_numpy(np.array(value)).to(self._device)[None]
