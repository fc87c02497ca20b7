"""A component's weights from a file, safely: no code in a checkpoint ever runs."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rt.errors import CheckpointError

SHOWN = 5  # names that an error lists of each kind


def load_checkpoint(model: nn.Module, folder: Path, component: str) -> None:
    """Load `<component>.safetensors`, else `<component>.pt`, into a model on the CPU.

    Raises CheckpointError if neither exists, if the file is damaged or holds anything but
    tensors by name, or if names or shapes are not exactly the model's.
    """
    path = _find(folder, component)
    state = _read(path)
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        inside = f", got keys {_some(map(str, state))}" if isinstance(state, dict) else ""
        raise CheckpointError(
            f"{path}: expected a state_dict (parameter name → tensor){inside}: "
            "save model.state_dict() itself"
        )
    _check_fit(model, state, path)
    model.load_state_dict(state)


def _find(folder: Path, component: str) -> Path:
    paths = [folder / f"{component}{suffix}" for suffix in (".safetensors", ".pt")]
    for path in paths:
        if path.is_file():
            return path
    raise CheckpointError(
        f"component {component!r} has no checkpoint: expected {paths[0].name} or {paths[1].name} "
        f"in {folder}"
    )


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols: we refuse or load
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are parsers
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to run it
            reason = "it holds more than tensors, and unpickling that could run code"
        raise CheckpointError(
            f"{path}: cannot be read safely as tensors ({type(error).__name__}: {reason}): save it "
            "as .safetensors, or as a .pt that holds only a state_dict"
        ) from None


def _check_fit(model: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    problems = []
    if missing := sorted(wanted.keys() - state.keys()):
        problems.append(f"missing: {_some(missing)}")
    if unexpected := sorted(state.keys() - wanted.keys()):
        problems.append(f"unexpected: {_some(unexpected)}")
    mismatched = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    if mismatched:
        problems.append(f"of another shape: {_some(mismatched)}")
    if problems:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {'; '.join(problems)}: take the "
            "checkpoint of this very model, or mend its params"
        )


def _some(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
