"""Normalisation statistics out of a pickle, without running what else the pickle may hold."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from rt.errors import ConfigError

# All that numpy writes into a pickle of arrays and scalars, by the names of numpy 1 and 2. They
# build arrays from bytes and can be made to do nothing else.
ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
}


def _latin1(text: str, encoding: str) -> bytes:
    """Protocol 2 writes bytes as text. Stands in for codecs.encode, which can do more."""
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        # numpy 1's module names still work in numpy 2, but warn.
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def convert_pickle(source: Path, target: Path) -> None:
    """Write the pickle's {key: {"mean": array, ...}} as JSON of the same keys.

    Without a key "norm_stats" around them that is read as lerobot's JSON, whose epsilon, 1e-8, is
    the one that whoever wrote such pickles normalised with.

    Raises ConfigError for a pickle that cannot be read or holds anything but dicts, arrays and
    finite numbers, and for a target that cannot be written.
    """
    try:
        content = _Unpickler(io.BytesIO(source.read_bytes())).load()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None
    except Exception as error:  # a hostile pickle can make any of its parts fail
        raise ConfigError(
            f"{source}: expected a pickle of dicts, numpy arrays and numbers only, but {error}"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: expected a dict at the top, got {type(content).__name__}")
    try:
        target.write_text(json.dumps(_plain(content, source, ""), indent=2) + "\n", "utf-8")
    except RecursionError:  # a pickle can say that a dict holds itself
        raise ConfigError(f"{source}: expected plain values, got endless nesting") from None
    except ValueError as error:  # lists of unequal length, an integer of thousands of digits
        raise ConfigError(f"{source}: expected arrays of finite numbers, but {error}") from None
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None


def _plain(value: Any, source: Path, place: str) -> Any:
    """`value` as JSON has it: mappings, lists, numbers."""
    if isinstance(value, dict):
        inside = f"{place}." if place else ""
        return {str(key): _plain(v, source, f"{inside}{key}") for key, v in value.items()}
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ConfigError(
            f"{source}: {place}: expected finite numbers, got {type(value).__name__} {value!r:.60}"
        )
    return array.tolist()
