"""From a policy YAML to a policy that is ready to run. No model code lives here, and torch is
imported for components alone: a robot whose policy is on another machine does without it."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from rt.config.words import nearest
from rt.errors import ConfigError, PolicyError
from rt.infer import policies
from rt.infer.policy import Policy
from rt.infer.policy_config import ComponentConfig, PolicyConfig, load_policy_config
from rt.infer.registry import POLICY_REGISTRY

if TYPE_CHECKING:
    import torch
    from torch import nn

METHODS = ("predict", "guided_inference", "warmup", "freeze_all_model_params")


def torch_device(threads: int = 0) -> str:
    """Where torch puts models on this machine; imports it. threads: 0: as many as it likes."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"


def build_policy(policy_yaml_path: Path | str, map_location: torch.device | str = "cpu") -> Policy:
    """Build the policy that a YAML describes, on the device `map_location`, frozen.

    Its components are built on the CPU, moved, then filled from the checkpoint where they are, so
    that neither memory ever holds a model twice. Without `checkpoint_path` they keep the weights
    that they were built with.
    Raises ConfigError, PolicyError, CheckpointError, and what the model's own constructor raises.
    """
    config = load_policy_config(policy_yaml_path)
    policy_class = find_policy_class(config)
    if not config.components and hasattr(policy_class, "default_component_class"):
        raise ConfigError(
            f"{config.path}: expected a key 'model' with the components that "
            f"{_name(policy_class)} is made of, got none"
        )
    components = {
        name: build_component(config, name, policy_class, map_location)
        for name in config.components
    }
    _check_keywords(policy_class, (components,), config.kwargs, f"{config.path}: policy")
    policy = policy_class(components, **config.kwargs)
    missing = [name for name in METHODS if not callable(getattr(policy, name, None))]
    if missing:
        raise PolicyError(
            f"{_name(policy_class)} is no rt.infer.Policy: it lacks {', '.join(missing)}"
        )
    policy.freeze_all_model_params()
    checked: Policy = policy
    return checked


def find_policy_class(config: PolicyConfig) -> type[Any]:
    """The class of `policy.type`: "package.module:Class", or a registered name. A name that is
    not registered yet may be a module of rt.infer.policies, which registers it. PolicyError."""
    place = f"{config.path}: policy.type"
    if ":" in config.type:
        return import_class(config.type, place)
    shipped = [module.name for module in iter_modules(policies.__path__)]
    if config.type not in POLICY_REGISTRY.names() and config.type in shipped:
        import_module(f"{policies.__name__}.{config.type}")
    if config.type not in POLICY_REGISTRY.names():
        for name in shipped:  # so that every name that would do can be told
            import_module(f"{policies.__name__}.{name}")
        known = POLICY_REGISTRY.names()
        raise PolicyError(
            f"{place}: expected one of {', '.join(known)} or package.module:Class, got "
            f"{config.type!r}"
        )
    return POLICY_REGISTRY.get(config.type)


def build_component(
    config: PolicyConfig, name: str, policy_class: type[Any], map_location: torch.device | str
) -> nn.Module:
    """One component: built, on its device, loaded, in eval mode."""
    import torch
    from torch import nn

    from rt.infer.checkpoint import UnfilledWeights, load_checkpoint

    component, path = config.components[name], config.component_paths[name]
    model_class = _model_class(component, path, policy_class)
    _check_keywords(model_class, (), component.params, f"{path}: params")
    loads = config.checkpoint_path is not None
    with torch.device("cpu"), UnfilledWeights() if loads else nullcontext():
        model = model_class(**component.params)
    if not isinstance(model, nn.Module):
        raise PolicyError(f"{path}: class: {_name(model_class)} is no torch.nn.Module")
    try:
        model = model.to(map_location).eval()
    except (RuntimeError, AssertionError) as error:  # torch's words for a device it cannot use
        reason = str(error).partition("\n")[0]
        raise PolicyError(f"{name} cannot be moved to {map_location}: {reason}") from error
    if config.checkpoint_path is not None:
        load_checkpoint(model, config.checkpoint_path, name)
    return model


def import_class(path: str, place: str) -> type[Any]:
    """The class at "package.module:Class" or "package.module.Class". ConfigError names `place`."""
    separator = ":" if ":" in path else "."
    module_name, _, class_name = path.rpartition(separator)
    try:
        found = module_name and find_spec(module_name)
    except (ImportError, ValueError):  # a parent package is missing; "a..b", ".a"
        found = None
    if not found:
        raise ConfigError(
            f"{place}: expected package.module.Class, got {path!r}: there is no module "
            f"{module_name!r} to import"
        )
    module = import_module(module_name)
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        hint = nearest(class_name, classes) if classes else "it has no classes"
        raise ConfigError(f"{place}: module {module_name} has no class {class_name!r}: {hint}")
    return cls


def _model_class(component: ComponentConfig, path: Path, policy_class: type[Any]) -> type[Any]:
    if component.class_path is not None:
        return import_class(component.class_path, f"{path}: class")
    default = getattr(policy_class, "default_component_class", None)
    if default is None:
        raise ConfigError(
            f"{path}: expected a key 'class' (import path of the model), got none: "
            f"{_name(policy_class)} has no default_component_class"
        )
    return import_class(default, f"{_name(policy_class)}.default_component_class")


def _check_keywords(
    cls: type[Any], positional: tuple[object, ...], keywords: dict[str, Any], place: str
) -> None:
    """Refuse keywords that the constructor does not take, before it runs."""
    try:
        inspect.signature(cls).bind(*positional, **keywords)
    except TypeError as error:
        raise ConfigError(f"{place}: {_name(cls)}: {error}") from None


def _name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
