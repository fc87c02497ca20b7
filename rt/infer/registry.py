"""Policy types by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rt.errors import PolicyError

T = TypeVar("T", bound=type[Any])


class Registry:
    """Names to classes. A name has one class."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Any]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """The decorator for a class. Raises PolicyError if the name is taken."""

        def add(cls: T) -> T:
            taken = self._classes.get(name)
            if taken is not None:
                raise PolicyError(
                    f"policy type {name!r} is already {taken.__module__}.{taken.__qualname__}, "
                    f"so {cls.__module__}.{cls.__qualname__} needs another name"
                )
            self._classes[name] = cls
            return cls

        return add

    def get(self, name: str) -> type[Any]:
        """The class of that name. Raises PolicyError."""
        if name not in self._classes:
            known = ", ".join(self.names()) or "none yet"
            raise PolicyError(f"policy type {name!r} is not registered, known are: {known}")
        return self._classes[name]

    def names(self) -> tuple[str, ...]:
        """Every registered name, sorted."""
        return tuple(sorted(self._classes))


POLICY_REGISTRY = Registry()
