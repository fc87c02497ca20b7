"""A file of statistics that lerobot wrote normalises as lerobot's own step does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets.compute_stats import get_feature_stats
from lerobot.processor.normalize_processor import (
    NormalizerProcessorStep,
    UnnormalizerProcessorStep,
)
from safetensors.torch import save_file

from rt.infer.normalization import Normalizer

DIMS = 6
MODES = (("MEAN_STD", "z-score"), ("MIN_MAX", "min-max"), ("QUANTILES", "quantile"))
FEATURES = {
    "observation.state": PolicyFeature(FeatureType.STATE, (DIMS,)),
    "action": PolicyFeature(FeatureType.ACTION, (DIMS,)),
}


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """300 frames of joints that move far, and hardly."""
    random = np.random.default_rng(0)
    spread = np.array([1.0, 2.0, 0.1, 0.5, 1e-3, 1e-6])
    return {key: random.normal(size=(300, DIMS)) * spread + np.arange(DIMS) for key in FEATURES}


@pytest.mark.parametrize(("theirs", "ours"), MODES)
@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_it_is_lerobot_s_normalisation(
    tmp_path: Path, data: dict[str, Any], theirs: str, ours: Any, kind: str
) -> None:
    stats = {
        key: {
            name: np.atleast_1d(values)
            for name, values in get_feature_stats(x, axis=0, keepdims=False).items()
        }
        for key, x in data.items()
    }
    # The JSON has all the digits, lerobot's tensors those of float32.
    dtype = torch.float64 if kind == "json" else torch.float32
    norm_map = dict.fromkeys((FeatureType.STATE, FeatureType.ACTION), NormalizationMode(theirs))
    keywords = {"features": FEATURES, "norm_map": norm_map, "stats": stats, "dtype": dtype}
    step = NormalizerProcessorStep(**keywords)
    path = tmp_path / f"stats.{kind}"
    if kind == "json":
        plain = {k: {n: v.tolist() for n, v in entry.items()} for k, entry in stats.items()}
        path.write_text(json.dumps(plain))
    else:
        save_file(step.state_dict(), path)

    normalizer = Normalizer.load(path, DIMS, DIMS, mode=ours)
    state, action = (torch.tensor(data[key], dtype=dtype) for key in FEATURES)
    want = step._normalize_observation({"observation.state": state}, inverse=False)
    assert torch.equal(normalizer.normalize_state(state), want["observation.state"])
    normalized = step._normalize_action(action, inverse=False)
    assert torch.equal(normalizer.normalize_action(action), normalized)

    back = UnnormalizerProcessorStep(**keywords)._normalize_action(normalized, inverse=True)
    # lerobot's inverse of MEAN_STD leaves the 1e-8 out.
    torch.testing.assert_close(
        normalizer.denormalize_action(normalized), back, rtol=1e-6, atol=1e-7
    )
