"""Packages that one policy type alone needs, imported when such a policy is built."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rt.errors import MissingPackageError


def import_optional(package: str, module: str, *, policy_type: str, install: str) -> Any:
    """`<package>.<module>`.

    policy_type, install: who needs it, and how it is installed, for errors.
    Raises MissingPackageError if the package, or one that it needs, is absent or does not fit.
    """
    if find_spec(package) is None:
        raise MissingPackageError(
            f"policy type {policy_type!r} needs the package {package}, which is not installed: "
            f"{install}"
        )
    try:
        return import_module(f"{package}.{module}")
    except (ImportError, RuntimeError) as error:  # the latter from torchvision of another build
        raise MissingPackageError(
            f"{package} is installed, but {package}.{module} cannot be imported ({error}): "
            f"{install}"
        ) from error
