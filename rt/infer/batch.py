"""The items of a batch: what several robots ask, in one forward.

Each item has its own state, leftover, weights and noise. One for a whole batch are the keys and
shapes of what is observed, whatever is no array (a prompt), and how a leftover pulls (beta, the
Jacobian, a clean prefix). A item without a leftover goes with any other: its weights are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rt.infer.denoising import Guide
from rt.infer.normalization import Normalizer
from rt.infer.policy import GuidanceOptions


class Item(NamedTuple):
    """What one robot asks: on the device, in the network's units, without a batch axis."""

    observation: dict[str, Any]  # a tensor for every array, all else as it was given
    noise: Tensor  # (H, model_action_dim)
    guide: Guide | None  # leftover and weights (H, model_action_dim)
    options: GuidanceOptions
    normalizer: Normalizer  # anchored at its state


class Batch(NamedTuple):
    """Items, stacked."""

    observation: dict[str, Any]  # (B, ...)
    noise: Tensor  # (B, H, model_action_dim)
    guide: Guide | None  # leftover and weights (B, H, model_action_dim); None: nobody is guided
    options: GuidanceOptions


def batch_size(count: int) -> int:
    """How many items `count` of them are run as: the next power of two.

    What is compiled or recorded knows its shapes, so there must be few.
    """
    return 1 << (count - 1).bit_length()


def groups(items: Mapping[int, Item]) -> list[list[int]]:
    """The keys of `items`, by what can be one batch."""
    found: list[list[int]] = []
    for key in sorted(items, key=lambda key: items[key].guide is None):  # who fits any comes last
        group = next((group for group in found if _fits(items[key], items[group[0]])), None)
        if group is None:
            found.append([key])
        else:
            group.append(key)
    return found


def stack(items: Sequence[Item]) -> Batch:
    """One batch of items of one group, filled up with its last to `batch_size`."""
    guided = [item for item in items if item.guide is not None]
    guide = None
    if guided:
        zeros = torch.zeros_like(items[0].noise, dtype=torch.float32)
        guides = [item.guide or Guide(zeros, zeros) for item in items]
        guide = Guide(*map(_stacked, zip(*guides, strict=True)))
    observation = {
        name: _stacked([item.observation[name] for item in items])
        if isinstance(value, Tensor)
        else value
        for name, value in items[0].observation.items()
    }
    noise = _stacked([item.noise for item in items])
    return Batch(observation, noise, guide, (guided or items)[0].options)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """(B, ...), in the order of `tensors`."""
    if len(tensors) == 1:
        return tensors[0][None]  # a view: the robot's own images are not copied again
    missing = batch_size(len(tensors)) - len(tensors)
    return torch.stack([*tensors, *[tensors[-1]] * missing])


def _fits(item: Item, first: Item) -> bool:
    return _seen(item) == _seen(first) and (item.guide is None or _pull(item) == _pull(first))


def _seen(item: Item) -> dict[str, Any]:
    return {
        name: (value.shape, value.dtype) if isinstance(value, Tensor) else value
        for name, value in item.observation.items()
    }


def _pull(item: Item) -> tuple[bool, float, bool]:
    """The options but for the schedule, which is in the weights already."""
    return item.options.prefix, item.options.max_guidance_weight, item.options.vjp
