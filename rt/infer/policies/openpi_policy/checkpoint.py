"""What an openpi checkpoint is made of: a train config, a PyTorch model, statistics, transforms.

    <ckpt_dir>/model.safetensors                    the weights
    <ckpt_dir>/assets/<asset_id>/norm_stats.json    the statistics that it was trained with

The train config, by its name in openpi, tells the rest: shapes, transforms, asset_id, and whether
statistics are z-scores (pi0) or quantiles (pi0.5). openpi imports jax, so it is imported only here,
when a policy is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rt.config.words import describe, nearest
from rt.errors import CheckpointError, ConfigError, PolicyError
from rt.infer.affine import IDENTITY
from rt.infer.normalization import Normalizer
from rt.infer.optional import import_optional

import_openpi = partial(
    import_optional,
    "openpi",
    policy_type="openpi_policy",
    install="pip install git+https://github.com/Physical-Intelligence/openpi, and see its README",
)

Precision = Literal["bfloat16", "float32"]
Transform = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Checkpoint:
    """One openpi checkpoint, read but for its weights."""

    name: str  # of its train config
    folder: Path
    train_config: Any  # openpi.training.config.TrainConfig
    normalizer: Normalizer  # of actions; the state stays in robot units, see `inputs`
    inputs: Transform  # unbatched numpy observation in robot units → the model's inputs
    outputs: Transform  # the model's {"state", "actions"} → {"actions"} in robot units

    @property
    def action_horizon(self) -> int:
        """H."""
        return int(self.train_config.model.action_horizon)

    @property
    def model_action_dim(self) -> int:
        """Columns of a chunk inside the model: the robot's, then padding."""
        return int(self.train_config.model.action_dim)

    def load_model(self, precision: Precision) -> Any:
        """openpi's PI0Pytorch with its weights, on the CPU.

        Raises ConfigError, CheckpointError and PolicyError.
        """
        if precision not in get_args(Precision):
            known = " or ".join(get_args(Precision))
            raise ConfigError(f"params.precision: expected {known}, got {describe(precision)}")
        path = self.folder / "model.safetensors"
        config = self.train_config.model
        try:
            model = config.load_pytorch(self.train_config, str(path))
        except ValueError as error:  # the transformers package lacks openpi's patches
            raise PolicyError(f"openpi cannot build {self.name!r}: {error}") from error
        except Exception as error:  # names or shapes that differ; a damaged file
            reason = shorten(str(error), 300)  # torch lists every name
            raise CheckpointError(
                f"{path} does not fit openpi's train config {self.name!r} "
                f"({type(error).__name__}: {reason}): name the config it was trained with"
            ) from error
        model.paligemma_with_expert.to_bfloat16_for_selected_params(precision)
        return model


def open_checkpoint(
    train_config_name: str,
    ckpt_dir: str,
    *,
    state_dim: int,
    action_dim: int,
    default_prompt: str | None,
) -> Checkpoint:
    """Read all but the weights. Raises MissingPackageError, ConfigError and CheckpointError."""
    configs = import_openpi("training.config")
    transforms = import_openpi("transforms")
    train_config = _train_config(configs, train_config_name)
    folder = Path(ckpt_dir).expanduser()
    _check_folder(folder)
    data = train_config.data.create(train_config.assets_dirs, train_config.model)
    path = _stats_path(folder, train_config_name, data.asset_id)
    quantiles = bool(data.use_quantile_norm)
    normalizer = Normalizer.load(  # before openpi reads the file: a wrong one is told better
        path,
        state_dim,
        action_dim,
        mode="quantile" if quantiles else "z-score",
        delta=_delta_mask(transforms, data.data_transforms.outputs, action_dim),
    )
    stats = import_openpi("shared.normalize").load(path.parent)
    return Checkpoint(
        name=train_config_name,
        folder=folder,
        train_config=train_config,
        normalizer=replace(normalizer, state=IDENTITY),
        inputs=transforms.compose(
            [
                transforms.InjectDefaultPrompt(default_prompt),
                *data.data_transforms.inputs,
                transforms.Normalize(stats, use_quantiles=quantiles),
                *data.model_transforms.inputs,
            ]
        ),
        outputs=transforms.compose(
            [
                *data.model_transforms.outputs,
                transforms.Unnormalize(stats, use_quantiles=quantiles),
                *data.data_transforms.outputs,
            ]
        ),
    )


def _train_config(configs: Any, name: str) -> Any:
    try:
        train_config = configs.get_config(name)
    except ValueError as error:
        names = getattr(configs, "_CONFIGS_DICT", None)  # openpi has no public list of them
        known = f"{nearest(name, names)} Known are: {', '.join(names)}" if names else str(error)
        raise ConfigError(
            f"train_config_name: openpi has no train config {name!r}: {known}"
        ) from None
    if not hasattr(train_config.model, "pi05"):
        raise ConfigError(
            f"train_config_name: {name!r} is a {type(train_config.model).__name__}, which openpi "
            "has in jax alone: expected the config of a pi0 or pi0.5"
        )
    return train_config


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(
            f"ckpt_dir: expected the folder of an openpi checkpoint, but {folder} is none: mend "
            "the path"
        )
    if (folder / "model.safetensors").is_file():
        return
    if (folder / "params").is_dir():
        raise CheckpointError(
            f"ckpt_dir: {folder} is a jax checkpoint: convert it once with openpi's "
            "examples/convert_jax_model_to_pytorch.py and name the new folder"
        )
    raise CheckpointError(f"ckpt_dir: expected a file model.safetensors in {folder}, got none")


def _stats_path(folder: Path, name: str, asset_id: str | None) -> Path:
    if asset_id is None:
        raise ConfigError(
            f"openpi's train config {name!r} names no asset_id, so its statistics cannot be found: "
            "give its data config an asset_id or a repo_id"
        )
    path = folder / "assets" / asset_id / "norm_stats.json"
    if not path.is_file():
        raise CheckpointError(
            f"ckpt_dir: expected the training statistics in {path}, but nothing is there: copy the "
            "folder assets of the checkpoint as it was trained"
        )
    return path


def _delta_mask(transforms: Any, outputs: Any, action_dim: int) -> NDArray[np.bool_] | None:
    """(A,): joints whose action is relative to the state; None without any.

    openpi lets a mask end before the action does; what it leaves out is absolute.
    """
    relative = np.zeros(action_dim, bool)
    for transform in outputs:
        if isinstance(transform, transforms.AbsoluteActions) and transform.mask is not None:
            mask = transform.mask[:action_dim]
            relative[: len(mask)] |= np.asarray(mask, bool)
    return relative if relative.any() else None
