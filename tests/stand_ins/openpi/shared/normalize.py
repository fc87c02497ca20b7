"""Statistics of the training data, as openpi keeps them beside a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class NormStats:
    mean: Any
    std: Any
    q01: Any = None
    q99: Any = None


def save(directory: Path | str, norm_stats: dict[str, NormStats]) -> None:
    path = Path(directory) / "norm_stats.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = {
        key: {name: None if value is None else list(value) for name, value in asdict(stats).items()}
        for key, stats in norm_stats.items()
    }
    path.write_text(json.dumps({"norm_stats": lists}))


def load(directory: Path | str) -> dict[str, NormStats]:
    path = Path(directory) / "norm_stats.json"
    if not path.exists():
        raise FileNotFoundError(f"Norm stats file not found at: {path}")
    stats = json.loads(path.read_text())["norm_stats"]
    return {
        key: NormStats(**{k: None if v is None else np.asarray(v) for k, v in values.items()})
        for key, values in stats.items()
    }
