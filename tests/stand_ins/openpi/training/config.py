"""Train configs by name: what a fork of openpi would add for its robot."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openpi import transforms
from openpi.models.pi0_config import Pi0Config
from openpi.models.tokenizer import PaligemmaTokenizer


@dataclass(frozen=True)
class DataConfig:
    asset_id: str | None = None
    data_transforms: transforms.Group = field(default_factory=transforms.Group)
    model_transforms: transforms.Group = field(default_factory=transforms.Group)
    use_quantile_norm: bool = False


@dataclass(frozen=True)
class RobotInputs:
    """Cameras and state under a robot's own names, images channels first or last."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        base, wrist = (_channels_last(data[f"observation/{name}"]) for name in ("image", "wrist"))
        inputs = {
            "state": data["observation/state"],
            "image": {
                "base_0_rgb": base,
                "left_wrist_0_rgb": wrist,
                "right_wrist_0_rgb": np.zeros_like(base),
            },
            "image_mask": {
                "base_0_rgb": np.True_,
                "left_wrist_0_rgb": np.True_,
                "right_wrist_0_rgb": np.False_,
            },
        }
        return inputs | ({"prompt": data["prompt"]} if "prompt" in data else {})


def _channels_last(image: Any) -> Any:
    return image.transpose(1, 2, 0) if image.shape[0] == 3 else image


@dataclass(frozen=True)
class RobotOutputs:
    """The first `dims` columns, each times its sign."""

    signs: Sequence[float]

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"actions": np.asarray(data["actions"][..., : len(self.signs)]) * self.signs}


@dataclass(frozen=True)
class DataConfigFactory:
    robot: transforms.Group = field(default_factory=transforms.Group)
    asset_id: str | None = "tiny_robot"

    def create(self, assets_dirs: Path, model_config: Any) -> DataConfig:
        tokenizer = PaligemmaTokenizer(model_config.max_token_len)
        return DataConfig(
            asset_id=self.asset_id,
            data_transforms=self.robot,
            model_transforms=transforms.Group(
                inputs=[
                    transforms.InjectDefaultPrompt(None),
                    transforms.ResizeImages(16, 16),
                    transforms.TokenizePrompt(tokenizer, discrete_state_input=model_config.pi05),
                    transforms.PadStatesAndActions(model_config.action_dim),
                ]
            ),
            use_quantile_norm=model_config.pi05,
        )


@dataclass(frozen=True)
class TrainConfig:
    name: str
    model: Any = field(default_factory=Pi0Config)
    data: DataConfigFactory = field(default_factory=DataConfigFactory)
    assets_dirs: Path = Path("assets")


@dataclass(frozen=True)
class Pi0FASTConfig:
    action_dim: int = 8
    action_horizon: int = 6


def _robot(signs: Sequence[float], delta: Callable[[], tuple[bool, ...]] | None) -> Any:
    group = transforms.Group(inputs=[RobotInputs()], outputs=[RobotOutputs(signs)])
    return group.push(outputs=[transforms.AbsoluteActions(delta())]) if delta else group


PI05 = Pi0Config(pi05=True)
_CONFIGS = [
    TrainConfig(
        "pi05_tiny",
        PI05,
        DataConfigFactory(_robot([1] * 3, lambda: transforms.make_bool_mask(2, -1))),
    ),
    TrainConfig("pi0_tiny"),
    TrainConfig("pi0_flipped", data=DataConfigFactory(_robot([1, -1, 1], None))),
    TrainConfig("pi05_no_assets", PI05, DataConfigFactory(asset_id=None)),
    TrainConfig("pi0_fast_tiny", Pi0FASTConfig()),
]
_CONFIGS_DICT = {config.name: config for config in _CONFIGS}


def get_config(config_name: str) -> TrainConfig:
    if config_name not in _CONFIGS_DICT:
        closest = difflib.get_close_matches(config_name, _CONFIGS_DICT, n=1, cutoff=0.0)
        hint = f" Did you mean '{closest[0]}'? " if closest else ""
        raise ValueError(f"Config '{config_name}' not found.{hint}")
    return _CONFIGS_DICT[config_name]
