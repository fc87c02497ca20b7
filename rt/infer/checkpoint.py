"""A component's weights: from a file, or new ones into a policy that runs.

Guarantees:
  - No code in a checkpoint ever runs.
  - Nothing is copied unless everything fits: every name, shape and dtype is checked before.
  - Neither the host nor the device ever holds the weights twice: the file is mapped, not read, and
    its tensors are copied one after the other to where the model's own already are.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rt.errors import CheckpointError

SHOWN = 5  # names that an error lists of each kind
RANDOM = {Tensor.uniform_, Tensor.normal_} | {
    getattr(nn.init, name) for name in ("uniform_", "normal_", "kaiming_uniform_")
}


def load_checkpoint(model: nn.Module, folder: Path, component: str) -> None:
    """Load `<component>.safetensors`, else `<component>.pt`, into a model on any device.

    Raises CheckpointError if neither exists, if the file is damaged or holds anything but
    tensors by name, or as `load_weights` does.
    """
    path = _find(folder, component)
    load_weights(model, _read(path), str(path))


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into `model`, whose tensors stay where they are: also while a policy runs.

    Between two chunks, in the thread that runs the policy: what torch compiled or captured in a
    CUDA graph goes on with the new weights. Floats are cast to the model's dtype.

    weights: parameters and buffers by the names of `model.state_dict()`, on any device. Of tensors
        that the model shares between several names, one will do.
    source: where they come from, for the error.
    Raises CheckpointError, with the model as it was, unless names, shapes and dtypes are its own.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        inside = f", got keys {_some(map(str, weights))}" if isinstance(weights, Mapping) else ""
        raise CheckpointError(
            f"{source}: expected a state_dict (parameter name → tensor){inside}: "
            "save model.state_dict() itself"
        )
    _check_fit(model, weights, source)
    model.load_state_dict(weights, strict=False)  # but for shared names, all are there


class UnfilledWeights(TorchFunctionMode):
    """A context to build a model in whose weights come afterwards: no parameter is drawn at random.

    Drawing takes longer than loading, and would touch the memory. All else that a constructor does
    is done, as it may be in no checkpoint: building on the device `meta` would lose it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in RANDOM:
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


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
    """What is in the file, its tensors mapped: on the host, and in memory only once looked at."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        mappable = zipfile.is_zipfile(path)  # what torch saved before 1.6 is not
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols: we refuse or load
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except Exception as error:  # a damaged file fails in as many ways as there are parsers
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to run it
            reason = "it holds more than tensors, and unpickling that could run code"
        raise CheckpointError(
            f"{path}: cannot be read safely as tensors ({type(error).__name__}: {reason}): save it "
            "as .safetensors, or as a .pt that holds only a state_dict"
        ) from None


def _check_fit(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    wanted = model.state_dict(keep_vars=True)  # the very tensors: shared ones are the same object
    fitting = {name: weights[name] for name in wanted if name in weights}
    filled = {id(wanted[name]) for name in fitting}
    problems = {
        "missing": [name for name, value in wanted.items() if id(value) not in filled],
        "unexpected": [name for name in weights if name not in wanted],
        "of another shape": [
            f"{name} {tuple(new.shape)} instead of {tuple(wanted[name].shape)}"
            for name, new in fitting.items()
            if new.shape != wanted[name].shape
        ],
        "of another dtype": [
            f"{name} {new.dtype} instead of {wanted[name].dtype}"
            for name, new in fitting.items()
            if new.dtype != wanted[name].dtype
            and not (new.is_floating_point() and wanted[name].is_floating_point())
        ],
    }
    told = [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]
    if told:
        raise CheckpointError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(told)}: take the "
            "checkpoint of this very model, or mend its params"
        )


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
