"""From a policy's YAML to an engine: what it offers, and what it normalises by."""

from __future__ import annotations

from pathlib import Path

from rt.errors import ConfigError
from rt.infer.affine import IDENTITY, Affine
from rt.infer.loader import build_policy, torch_device
from rt.infer.normalization import Normalizer
from rt.infer.policy import COMMON_MODES
from rt.infer.policy_config import PolicyConfig, declared_dims, load_policy_config
from rt.serve.engine import Engine, Keys
from rt.version import installed_version
from rt.wire.offer import Offer, Scaled, Statistics
from rt.wire.openpi import CAMERA_MAP


def load_engine(policy_yaml_path: Path, device: str | None = None) -> Engine:
    """The policy that a YAML describes, not warm yet. device: default cuda where there is one.

    Raises what rt.infer.loader.build_policy raises, and ConfigError for components whose dims
    contradict each other, or statistics of dims that none declares.
    """
    config = load_policy_config(policy_yaml_path)
    dims = _dims(config)
    normalizer = _normalizer(config, dims)
    policy = build_policy(policy_yaml_path, map_location=device or torch_device())
    offer = Offer(
        version=installed_version(),
        policy=f"{policy_yaml_path.parent.name}/{policy_yaml_path.name}",
        policy_type=config.type,
        modes=tuple(getattr(policy, "modes", COMMON_MODES)),
        action_context_size=int(getattr(policy, "action_context_size", 0)),
        dims=dims,
        statistics=_statistics(normalizer),
        trained_for=config.trained_for,
    )
    return Engine(policy, normalizer, offer, _keys(config))


def _dims(config: PolicyConfig) -> dict[str, int]:
    """What the components declare, all of them. Raises ConfigError."""
    dims: dict[str, int] = {}
    for component, declared in declared_dims(config).items():
        for name, value in declared.items():
            if dims.setdefault(name, value) != value:
                raise ConfigError(
                    f"{config.component_paths[component]}: params.{name}: expected {dims[name]} as "
                    f"in the policy's other component, got {value}"
                )
    return dims


def _normalizer(config: PolicyConfig, dims: dict[str, int]) -> Normalizer:
    """By the policy's own statistics, else none. Raises ConfigError."""
    if config.norm_stats_path is None and config.delta_actions is False:
        return Normalizer.identity()
    if missing := [name for name in ("state_dim", "action_dim") if name not in dims]:
        raise ConfigError(
            f"{config.path}: expected a component whose params say {' and '.join(missing)}, as "
            "norm_stats_path and delta_actions need them, got none"
        )
    return config.normalizer(config.norm_stats_path, dims["state_dim"], dims["action_dim"])


def _statistics(normalizer: Normalizer) -> Statistics | None:
    if normalizer.is_identity:
        return None
    delta = None if normalizer.delta is None else normalizer.delta.tolist()
    return Statistics(
        state=_scaled(normalizer.state), action=_scaled(normalizer.action), delta=delta
    )


def _scaled(affine: Affine) -> Scaled | None:
    if affine is IDENTITY:
        return None
    return Scaled(
        offset=affine.offset.tolist(), scale=affine.scale.tolist(), shift=float(affine.shift)
    )


def _keys(config: PolicyConfig) -> Keys | None:
    """openpi's, of the policy's one component."""
    if config.type != "openpi_policy":
        return None
    (component,) = config.components.values()
    params = component.params
    return Keys(params.get("camera_map") or CAMERA_MAP, params.get("state_key", "state"))
