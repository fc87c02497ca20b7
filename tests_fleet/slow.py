"""A policy that takes as long as a model on a GPU, and tells which process computes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HORIZON, ACTIONS = 16, 2


class Slow:
    """`rt.infer.Policy`. Its chunk is the newest state in every row, times `factor`. While it
    computes, the number of its process stands in `pid_file`."""

    def __init__(
        self,
        components: dict[str, Any],
        *,
        seconds: float,
        factor: float = 1.0,
        load_s: float = 0.0,
        pid_file: str = os.devnull,
    ) -> None:
        time.sleep(load_s)
        self._seconds, self._factor, self._pid_file = seconds, factor, Path(pid_file)

    def infer_many(
        self, asks: Sequence[tuple[dict[str, Any], int]], normalizer: Any
    ) -> list[np.ndarray[Any, Any]]:
        """Any number takes as long as one."""
        self._pid_file.write_text(str(os.getpid()))
        time.sleep(self._seconds)
        states = (self._factor * input_data["proprio"][-1] for input_data, _ in asks)
        return [np.tile(state, (HORIZON, 1)).astype(np.float32) for state in states]

    def predict(self, input_data: dict[str, Any], normalizer: Any) -> Any:
        return self.infer_many([(input_data, 0)], normalizer)[0]

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Any, executed: int, horizon: int
    ) -> Any:
        return self.predict(input_data, normalizer)

    def warmup(self) -> None:
        """Nothing to warm."""

    def freeze_all_model_params(self) -> None:
        """Nothing to freeze."""
