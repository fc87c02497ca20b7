"""A policy that computes nothing and takes its time, as if a GPU did the work: what is around the
policy can be measured where there is no GPU.

    policy: {type: "gpu_stand_in:GpuStandIn", each_ms: 62, together_ms: 35}
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt.arrays import Chunk
from rt.infer.normalization import Normalizer

HORIZON = 50


class GpuStandIn:
    """Chunks (HORIZON, A) that stay at the newest state.

    each_ms: what every chunk of a batch takes by itself; together_ms: what the batch takes besides.
    """

    batches = True

    def __init__(
        self, components: dict[str, Any], *, each_ms: float = 0.0, together_ms: float = 0.0
    ) -> None:
        self._each_s, self._together_s = each_ms / 1e3, together_ms / 1e3

    def infer_many(
        self, asks: Sequence[tuple[dict[str, Any], int]], normalizer: Normalizer
    ) -> list[Chunk]:
        """A chunk for each (input_data, s)."""
        time.sleep(self._together_s + self._each_s * len(asks))
        return [np.tile(seen["proprio"][-1], (HORIZON, 1)) for seen, _ in asks]

    def predict(self, input_data: dict[str, Any], normalizer: Normalizer) -> Chunk:
        """One chunk."""
        return self.infer_many([(input_data, 0)], normalizer)[0]

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Normalizer, s: int, horizon: int
    ) -> Chunk:
        """One chunk."""
        return self.predict(input_data, normalizer)

    def warmup(self) -> None:
        """Nothing is cold."""

    def freeze_all_model_params(self) -> None:
        """There are none."""
