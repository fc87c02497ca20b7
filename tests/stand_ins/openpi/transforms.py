"""Observation and action transforms: callables from dict to dict, unbatched numpy inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Data = dict[str, Any]
Transform = Callable[[Data], Data]


@dataclass(frozen=True)
class Group:
    inputs: Sequence[Transform] = ()
    outputs: Sequence[Transform] = ()

    def push(self, *, inputs: Sequence[Transform] = (), outputs: Sequence[Transform] = ()) -> Group:
        return Group((*self.inputs, *inputs), (*outputs, *self.outputs))


def compose(transforms: Sequence[Transform]) -> Transform:
    def run(data: Data) -> Data:
        for transform in transforms:
            data = transform(data)
        return data

    return run


@dataclass(frozen=True)
class InjectDefaultPrompt:
    prompt: str | None

    def __call__(self, data: Data) -> Data:
        if self.prompt is not None and "prompt" not in data:
            data["prompt"] = np.asarray(self.prompt)
        return data


@dataclass(frozen=True)
class Normalize:
    norm_stats: Any
    use_quantiles: bool = False

    def __call__(self, data: Data) -> Data:
        found = {key: s for key, s in self.norm_stats.items() if key in data}
        return data | {key: self._apply(data[key], s) for key, s in found.items()}

    def _apply(self, x: Any, s: Any) -> Any:
        n = x.shape[-1]
        if self.use_quantiles:
            return (x - s.q01[:n]) / (s.q99[:n] - s.q01[:n] + 1e-6) * 2 - 1
        return (x - s.mean[:n]) / (s.std[:n] + 1e-6)


@dataclass(frozen=True)
class Unnormalize:
    norm_stats: Any
    use_quantiles: bool = False

    def __call__(self, data: Data) -> Data:
        if missing := set(self.norm_stats) - set(data):
            raise ValueError(f"Selector key {missing} not found in tree")
        return data | {key: self._apply(data[key], s) for key, s in self.norm_stats.items()}

    def _apply(self, x: Any, s: Any) -> Any:
        n = len(s.mean)  # columns beyond are padding and stay as they are
        if self.use_quantiles:
            known = (x[..., :n] + 1) / 2 * (s.q99 - s.q01 + 1e-6) + s.q01
        else:
            known = x[..., :n] * (s.std + 1e-6) + s.mean
        return np.concatenate([known, x[..., n:]], axis=-1)


@dataclass(frozen=True)
class ResizeImages:
    height: int
    width: int

    def __call__(self, data: Data) -> Data:
        return data | {"image": {key: self._resize(image) for key, image in data["image"].items()}}

    def _resize(self, image: Any) -> Any:
        height, width, _ = image.shape  # channels last
        rows = np.arange(self.height) * height // self.height
        return image[rows][:, np.arange(self.width) * width // self.width]


@dataclass(frozen=True)
class AbsoluteActions:
    mask: Sequence[bool] | None

    def __call__(self, data: Data) -> Data:
        if "actions" in data and self.mask is not None:
            n = len(self.mask)
            data["actions"][..., :n] += np.where(self.mask, data["state"][:n], 0)
        return data


@dataclass(frozen=True)
class TokenizePrompt:
    tokenizer: Any
    discrete_state_input: bool = False

    def __call__(self, data: Data) -> Data:
        if (prompt := data.pop("prompt", None)) is None:
            raise ValueError("Prompt is required")
        prompt = prompt if isinstance(prompt, str) else prompt.item()
        state = data["state"] if self.discrete_state_input else None
        tokens, mask = self.tokenizer.tokenize(prompt, state)
        return {**data, "tokenized_prompt": tokens, "tokenized_prompt_mask": mask}


@dataclass(frozen=True)
class PadStatesAndActions:
    model_action_dim: int

    def __call__(self, data: Data) -> Data:
        missing = self.model_action_dim - data["state"].shape[-1]
        return data | {"state": np.pad(data["state"], (0, missing))}


def make_bool_mask(*dims: int) -> tuple[bool, ...]:
    return tuple(dim > 0 for dim in dims for _ in range(abs(dim)))
