"""`type: sway`: every joint sways gently about where it was measured. A robot's first motion.

From a cold start row i is

    anchor + amplitude · sin(i · 2π / period)        anchor: the newest state then

and every later chunk goes on with the same sine. A policy is not told which row is being executed,
but the next two rows of the chunk in use are seen (`action_context`): y0 = sin(φ) and
y1 = sin(φ + δ), so tan φ = y0 sin δ / (y1 − y0 cos δ). No weights, no time, nothing to drift, and
every mode's chunk agrees with the one before.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from rt.arrays import Chunk
from rt.errors import PolicyError
from rt.infer.normalization import Normalizer
from rt.infer.registry import POLICY_REGISTRY


class Sine(nn.Module):
    """The common motion of all joints. It has no weights.

    action_horizon: H. amplitude_deg: each joint's. period_rows: rows of one sway, at least 8.
    Raises PolicyError.
    """

    def __init__(
        self, *, action_horizon: int = 50, amplitude_deg: float = 2.0, period_rows: float = 100.0
    ) -> None:
        super().__init__()
        if not (0 < amplitude_deg < 90 and period_rows >= 8):
            raise PolicyError(
                "sway: expected 0 < amplitude_deg < 90 and period_rows >= 8, got "
                f"{amplitude_deg:g} and {period_rows:g}"
            )
        self.horizon = action_horizon
        self.amplitude = math.radians(amplitude_deg)
        self.step = 2 * math.pi / period_rows

    def forward(self, anchor: torch.Tensor, phase: float) -> torch.Tensor:
        """(A,) rad, φ of the first row → (H, A) rad."""
        rows = torch.arange(self.horizon, dtype=anchor.dtype)
        return anchor + self.amplitude * torch.sin(phase + self.step * rows)[:, None]


@POLICY_REGISTRY.register("sway")
class Sway:
    """For any robot and any `--io`. `sequential`, where no row is left over, is not served."""

    default_component_class = "rt.infer.policies.sway.Sine"
    modes = ("naive", "blend", "temporal_ensembling", "rtc", "prefix")
    action_context_size = 2

    def __init__(self, components: dict[str, nn.Module]) -> None:
        self._sine: Any
        (self._sine,) = components.values()
        self._anchor: np.ndarray[Any, np.dtype[np.float64]] | None = None

    def predict(
        self, input_data: dict[str, Any], data_normalization_interface: Normalizer
    ) -> Chunk:
        """(H, A) float32, absolute, in robot units: what was swayed before, if anything was."""
        context = input_data.get("action_context")
        if context is None or self._anchor is None:
            self._anchor, phase = np.asarray(input_data["proprio"][-1], np.float64), 0.0
        else:
            phase = self._phase(np.asarray(context, np.float64) - self._anchor)
        chunk = self._sine(torch.from_numpy(self._anchor), phase)
        return np.asarray(chunk, np.float32)

    def guided_inference(
        self,
        input_data: dict[str, Any],
        data_normalization_interface: Normalizer,
        min_num_actions_executed: int,
        action_chunk_size: int,
    ) -> Chunk:
        """The same: it agrees with "prev_action" as it is."""
        return self.predict(input_data, data_normalization_interface)

    def reset(self) -> None:
        """An episode begins: sway about where the robot is then."""
        self._anchor = None

    def warmup(self) -> None:
        """Nothing has to be warm."""

    def freeze_all_model_params(self) -> None:
        """There are none."""

    def _phase(self, rows: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        """φ of the first of two rows (2, A) about the anchor, the mean of the joints'."""
        y0, y1 = rows.mean(axis=1)
        delta = self._sine.step
        return math.atan2(y0 * math.sin(delta), y1 - y0 * math.cos(delta))
