"""A policy's YAML files, read and checked without torch.

    model:                              # left out by a policy that is made of no components
      component_config_paths:
        flow: components/flow.yaml      # `class` (import path, optional) and `params`, or
                                        # these two keys themselves in place of the path
    policy:
      type: flow                        # a registered name, or "package.module:Class"
      num_inference_steps: 5            # every other key is a keyword of the policy's class; one
                                        # that ends in _file is a path
    checkpoint_path: checkpoints        # optional folder of <component>.safetensors or .pt
    trained_for: [sim]                  # optional: sim, real or both; absent: anything
    norm_stats_path: norm_stats.json    # optional; or LeRobot's stats.json or .safetensors
    norm_stats_mode: quantile           # optional: z-score (default), quantile or min-max
    delta_actions: true                 # optional: which joints' actions are relative to the state
                                        # at the observation: true, false, or one of them per joint

Paths are relative to the policy YAML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rt.config.files import convert, is_file, is_folder, read_mapping
from rt.config.words import describe
from rt.errors import CheckpointError, ConfigError
from rt.infer.affine import IDENTITY, Scaling
from rt.infer.normalization import Normalizer

DIMS = ("action_dim", "action_horizon", "state_dim", "proprio_history_size", "num_img_obs")
RobotKind = Literal["sim", "real"]


class ComponentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A component YAML: one model."""

    class_path: str | None = msgspec.field(name="class", default=None)
    params: dict[str, Any] = {}


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A policy YAML with its component YAMLs; every path is resolved."""

    path: Path
    type: str
    kwargs: dict[str, Any]
    components: dict[str, ComponentConfig]
    component_paths: dict[str, Path]
    checkpoint_path: Path | None
    trained_for: tuple[RobotKind, ...] | None  # None: anything
    norm_stats_path: Path | None
    norm_stats_mode: Scaling
    delta_actions: bool | tuple[bool, ...]

    def delta_mask(self, action_dim: int) -> NDArray[np.bool_] | None:
        """`delta_actions` as a mask (A,), None if no joint's is relative. Raises ConfigError."""
        delta = self.delta_actions
        if isinstance(delta, bool):
            delta = (delta,) * action_dim
        if len(delta) != action_dim:
            raise ConfigError(
                f"{self.path}: delta_actions: expected true, false, or a list of one for each of "
                f"the {action_dim} joints, got {len(delta)}"
            )
        return np.array(delta) if any(delta) else None

    def normalizer(
        self, stats_path: Path | str | None, state_dim: int, action_dim: int
    ) -> Normalizer:
        """By the statistics at `stats_path`, its own or others; without any by none. Relative
        actions are anchored either way. Raises ConfigError, PolicyError."""
        delta = self.delta_mask(action_dim)
        if not stats_path:
            return Normalizer(IDENTITY, IDENTITY, delta)
        return Normalizer.load(
            stats_path, state_dim, action_dim, mode=self.norm_stats_mode, delta=delta
        )


class _Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    component_config_paths: Annotated[dict[str, str | dict[str, Any]], Meta(min_length=1)]


class _PolicyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: _Model = _Model(component_config_paths={})
    policy: dict[str, Any]
    checkpoint_path: str | None = None
    trained_for: Annotated[tuple[RobotKind, ...], Meta(min_length=1)] | None = None
    norm_stats_path: str | None = None
    norm_stats_mode: Scaling = "z-score"
    delta_actions: bool | tuple[bool, ...] = False


def load_policy_config(path: Path | str) -> PolicyConfig:
    """Read a policy YAML and its component YAMLs.

    Raises ConfigError, naming file and key path, for a file that is missing or is not what it
    should be; CheckpointError for a `checkpoint_path` that is no folder.
    """
    path = Path(path)
    file = convert(read_mapping(path), _PolicyFile, path)
    kind = file.policy.get("type")
    if not isinstance(kind, str) or not kind:
        raise ConfigError(
            f"{path}: policy.type: expected the name of a policy type, got {describe(kind)}"
        )
    given = file.model.component_config_paths
    for name in given:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ConfigError(
                f"{path}: model.component_config_paths: expected names of letters, digits, _ and -"
                f", because a checkpoint's file is named so, got {name!r}"
            )
    checkpoint_path = _beside(path, file.checkpoint_path)
    if checkpoint_path is not None and not is_folder(checkpoint_path):
        raise CheckpointError(
            f"{path}: checkpoint_path: expected a folder, but {checkpoint_path} is none: mend the "
            "path, or take the key out to run without trained weights"
        )
    if checkpoint_path is not None and not given:
        raise ConfigError(
            f"{path}: checkpoint_path: expected a key 'model' as well, whose components the "
            "checkpoint fills, got none: add it, or take checkpoint_path out"
        )
    norm_stats_path = _beside(path, file.norm_stats_path)
    if norm_stats_path is not None and not is_file(norm_stats_path):
        raise ConfigError(
            f"{path}: norm_stats_path: expected a file, but {norm_stats_path} is none: mend "
            "the path"
        )
    component_paths = {
        name: path.parent / component if isinstance(component, str) else path
        for name, component in given.items()
    }
    return PolicyConfig(
        path=path,
        type=kind,
        kwargs={
            key: _keyword(path, key, value) for key, value in file.policy.items() if key != "type"
        },
        components={
            name: _component(component, component_paths[name]) for name, component in given.items()
        },
        component_paths=component_paths,
        checkpoint_path=checkpoint_path,
        trained_for=file.trained_for,
        norm_stats_path=norm_stats_path,
        norm_stats_mode=file.norm_stats_mode,
        delta_actions=file.delta_actions,
    )


def declared_dims(config: PolicyConfig) -> dict[str, dict[str, int]]:
    """What each component's `params` say of `DIMS`, to be compared with the runtime params.

    A dimension that a component does not declare is absent. Raises ConfigError for one that is
    not a whole number of at least 1.
    """
    dims: dict[str, dict[str, int]] = {}
    for name, component in config.components.items():
        dims[name] = {}
        for dim in DIMS:
            if dim not in component.params:
                continue
            value = component.params[dim]
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(
                    f"{config.component_paths[name]}: params.{dim}: expected a whole number of at "
                    f"least 1, got {describe(value)}"
                )
            dims[name][dim] = value
    return dims


def _component(given: str | dict[str, Any], path: Path) -> ComponentConfig:
    """From a file of its own, or from where it stands in the policy's."""
    return convert(read_mapping(path) if isinstance(given, str) else given, ComponentConfig, path)


def _keyword(yaml_path: Path, key: str, value: Any) -> Any:
    names_file = key.endswith("_file") and isinstance(value, str)
    return str(yaml_path.parent / value) if names_file else value


def _beside(yaml_path: Path, value: str | None) -> Path | None:
    return None if value is None else yaml_path.parent / value
