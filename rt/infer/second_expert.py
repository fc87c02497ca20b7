"""A second action expert out of a policy's own network, over the same prefix."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

from rt.errors import ConfigError


def second_expert(network: nn.Module, shared: Iterable[str]) -> nn.Module:
    """A copy of a flow network for an expert of its own, with the same weights to begin with.

    shared: dotted names of the submodules that stay the network's own: those that make the
    prefix, which `velocity` only reads. The copy uses them but does not count them among its own:
    its parameters, which ask for gradients, and its state_dict are the second expert's alone.
    Raises ConfigError for a name that there is not.
    """
    lent: dict[int, Any] = {}
    for name in shared:
        try:
            part = network.get_submodule(name)
        except AttributeError as error:
            raise ConfigError(
                f"a second expert cannot share {name!r} with {type(network).__name__}: {error}; "
                "name submodules of the network"
            ) from None
        lent[id(part)] = part
    expert = copy.deepcopy(network, dict(lent))
    _lend(expert, lent)
    return expert.requires_grad_(True)


def _lend(owner: nn.Module, lent: dict[int, Any]) -> None:
    """Turn lent submodules into attributes like any other, which torch does not count."""
    for name, part in list(owner.named_children()):
        if id(part) in lent:
            delattr(owner, name)
            object.__setattr__(owner, name, part)
        else:
            _lend(part, lent)
