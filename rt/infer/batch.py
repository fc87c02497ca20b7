"""The rows of a batch: what several robots ask, in one forward.

Each row has its own state, leftover, weights and noise. One for a whole batch are the keys and
shapes of what is observed, whatever is no array (a prompt), and how a leftover pulls (beta, the
Jacobian, a clean prefix). A row without a leftover goes with any other: its weights are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rt.infer.denoising import Guide
from rt.infer.normalization import Normalizer
from rt.infer.policy import GuidanceOptions


class Row(NamedTuple):
    """What one robot asks: on the device, in the network's units, without a batch axis."""

    observation: dict[str, Any]  # a tensor for every array, all else as it was given
    noise: Tensor  # (H, model_action_dim)
    guide: Guide | None  # leftover and weights (H, model_action_dim)
    options: GuidanceOptions
    normalizer: Normalizer  # anchored at its state


class Batch(NamedTuple):
    """Rows, stacked."""

    observation: dict[str, Any]  # (B, ...)
    noise: Tensor  # (B, H, model_action_dim)
    guide: Guide | None  # leftover and weights (B, H, model_action_dim); None: nobody is guided
    options: GuidanceOptions


def batch_size(count: int) -> int:
    """How many rows `count` of them are run as: the next power of two.

    What is compiled or recorded knows its shapes, so there must be few.
    """
    return 1 << (count - 1).bit_length()


def groups(rows: Mapping[int, Row]) -> list[list[int]]:
    """The keys of `rows`, by what can be one batch."""
    found: list[list[int]] = []
    for key in sorted(rows, key=lambda key: rows[key].guide is None):  # who fits any comes last
        group = next((group for group in found if _fits(rows[key], rows[group[0]])), None)
        if group is None:
            found.append([key])
        else:
            group.append(key)
    return found


def stack(rows: Sequence[Row]) -> Batch:
    """One batch of rows of one group, filled up with its last to `batch_size`."""
    guided = [row for row in rows if row.guide is not None]
    guide = None
    if guided:
        zeros = torch.zeros_like(rows[0].noise, dtype=torch.float32)
        guides = [row.guide or Guide(zeros, zeros) for row in rows]
        guide = Guide(*map(_stacked, zip(*guides, strict=True)))
    observation = {
        name: _stacked([row.observation[name] for row in rows])
        if isinstance(value, Tensor)
        else value
        for name, value in rows[0].observation.items()
    }
    noise = _stacked([row.noise for row in rows])
    return Batch(observation, noise, guide, (guided or rows)[0].options)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """(B, ...), in the order of `tensors`."""
    if len(tensors) == 1:
        return tensors[0][None]  # a view: the robot's own images are not copied again
    missing = batch_size(len(tensors)) - len(tensors)
    return torch.stack([*tensors, *[tensors[-1]] * missing])


def _fits(row: Row, first: Row) -> bool:
    return _seen(row) == _seen(first) and (row.guide is None or _pull(row) == _pull(first))


def _seen(row: Row) -> dict[str, Any]:
    return {
        name: (value.shape, value.dtype) if isinstance(value, Tensor) else value
        for name, value in row.observation.items()
    }


def _pull(row: Row) -> tuple[bool, float, bool]:
    """The options but for the schedule, which is in the weights already."""
    return row.options.prefix, row.options.max_guidance_weight, row.options.vjp
