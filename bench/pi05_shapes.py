"""A flow network of π0.5's shapes with random weights: what its layers cost, not what they know.

After openpi's description: a SigLIP tower sees three images, a Gemma reads their tokens and the
prompt's once per chunk and leaves keys and values, and a smaller Gemma, the action expert, attends
to them and to its own tokens at every denoising step, its norms told the time (adaRMS). One key
and value head serves all query heads. PI05 are the published sizes, SMALL the same proportions for
a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Cache = tuple[list[Tensor], list[Tensor]]  # each layer's keys, values (B, 1, tokens, head_dim)


@dataclass(frozen=True)
class Shapes:
    """Sizes of the three transformers; `depth`, heads and head_dim are shared by the Gemmas."""

    image: int = 224
    patch: int = 14
    eye_width: int = 1152
    eye_depth: int = 27
    eye_mlp: int = 4304
    eye_heads: int = 16
    prompt: int = 200
    depth: int = 18
    heads: int = 8
    head_dim: int = 256
    reader_width: int = 2048
    reader_mlp: int = 16384
    expert_width: int = 1024
    expert_mlp: int = 4096
    horizon: int = 50
    action_dim: int = 32

    @property
    def prefix(self) -> int:
        """Tokens that the expert attends to besides its own: 968 for PI05."""
        return len(CAMERAS) * (self.image // self.patch) ** 2 + self.prompt


CAMERAS = ("base", "left_wrist", "right_wrist")
PI05 = Shapes()
SMALL = Shapes(
    image=112,
    eye_width=144,
    eye_depth=3,
    eye_mlp=538,
    eye_heads=2,
    prompt=50,
    depth=6,
    heads=4,
    head_dim=64,
    reader_width=512,
    reader_mlp=2048,
    expert_width=256,
    expert_mlp=1024,
)


class Pi05Shaped(nn.Module):
    """The network that rt.infer.policies.flow asks for."""

    camera_names = CAMERAS
    batches = True

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.shapes = s = shapes
        self.action_horizon, self.action_dim, self.state_dim = s.horizon, s.action_dim, s.action_dim
        self.into = nn.Linear(s.action_dim, s.expert_width)
        self.time = nn.Sequential(
            nn.Linear(s.expert_width, s.expert_width),
            nn.SiLU(),
            nn.Linear(s.expert_width, s.expert_width),
            nn.SiLU(),
        )
        self.expert = nn.ModuleList(
            GemmaBlock(s, s.expert_width, s.expert_mlp, told=True) for _ in range(s.depth)
        )
        self.norm = Norm(s.expert_width, told=True)
        self.out = nn.Linear(s.expert_width, s.action_dim)
        self.patches = nn.Conv2d(3, s.eye_width, s.patch, stride=s.patch)
        self.eye = nn.ModuleList(
            nn.TransformerEncoderLayer(
                s.eye_width,
                s.eye_heads,
                s.eye_mlp,
                dropout=0.0,
                activation=F.gelu,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(s.eye_depth)
        )
        self.project = nn.Linear(s.eye_width, s.reader_width)
        self.prompt = nn.Parameter(torch.randn(1, s.prompt, s.reader_width))
        self.reader = nn.ModuleList(
            GemmaBlock(s, s.reader_width, s.reader_mlp, told=False) for _ in range(s.depth)
        )

    def encode(self, observation: dict[str, Any]) -> Cache:
        """Keys and values of every layer over the images' and the prompt's tokens."""
        images = torch.stack([observation[name][:, 0] for name in CAMERAS], 1).flatten(0, 1)
        tokens = self.patches(images / 127.5 - 1).flatten(2).transpose(1, 2)
        for layer in self.eye:
            tokens = layer(tokens)
        tokens = self.project(tokens).unflatten(0, (-1, len(CAMERAS))).flatten(1, 2)
        tokens = torch.cat([tokens, self.prompt.to(tokens).expand(len(tokens), -1, -1)], 1)
        rotary = rotations(0, tokens.shape[1], self.shapes.head_dim, tokens.device)
        keys, values = [], []
        for block in self.reader:
            tokens, key, value = block(tokens, rotary, None, None, None)
            keys.append(key)
            values.append(value)
        return keys, values

    def velocity(self, context: Cache, x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, A) at x (B, H, A) and tau (B,)."""
        told = self.time(waves(tau, self.shapes.expert_width))[:, None]
        tokens = self.into(x)
        rotary = rotations(self.shapes.prefix, x.shape[1], self.shapes.head_dim, x.device)
        for block, key, value in zip(self.expert, *context, strict=True):
            tokens, _, _ = block(tokens, rotary, told, key, value)
        velocity: Tensor = self.out(self.norm(tokens, told)[0])
        return velocity

    def example_observation(self) -> dict[str, Any]:
        """An `input_data`."""
        random = np.random.default_rng(0)
        shape = (1, 3, self.shapes.image, self.shapes.image)
        images = {name: random.integers(0, 256, shape, np.uint8) for name in CAMERAS}
        return {"proprio": np.zeros((1, self.state_dim), np.float32), **images}


class Norm(nn.Module):
    """RMSNorm; told the time, it also gives the gate of its branch (adaRMS)."""

    def __init__(self, width: int, *, told: bool) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 3 * width) if told else None
        self.scale = None if told else nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, told: Tensor | None) -> tuple[Tensor, Tensor | float]:
        """x (B, tokens, width), told (B, 1, width) to the normed x and the gate."""
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
        if self.modulation is None:
            return (normed * (1 + self.scale)).to(x.dtype), 1.0
        scale, shift, gate = self.modulation(told).chunk(3, -1)
        return (normed * (1 + scale) + shift).to(x.dtype), gate


class GemmaBlock(nn.Module):
    """Attention of several query heads to one key and value head, and a gated MLP."""

    def __init__(self, shapes: Shapes, width: int, mlp: int, *, told: bool) -> None:
        super().__init__()
        self.heads, self.head_dim = shapes.heads, shapes.head_dim
        self.norms = nn.ModuleList([Norm(width, told=told), Norm(width, told=told)])
        inner = self.heads * self.head_dim
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, self.head_dim, bias=False)
        self.value = nn.Linear(width, self.head_dim, bias=False)
        self.attended = nn.Linear(inner, width, bias=False)
        self.gate = nn.Linear(width, mlp, bias=False)
        self.up = nn.Linear(width, mlp, bias=False)
        self.down = nn.Linear(mlp, width, bias=False)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        told: Tensor | None,
        past_key: Tensor | None,
        past_value: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, tokens, width) to x and its own key and value, both (B, 1, tokens, head_dim)."""
        B, tokens, _ = x.shape
        y, gate = self.norms[0](x, told)
        query = self.query(y).view(B, tokens, self.heads, self.head_dim).transpose(1, 2)
        query = rotate(query, rotary)
        key, value = rotate(self.key(y)[:, None], rotary), self.value(y)[:, None]
        keys, values = key, value
        if past_key is not None and past_value is not None:
            keys = torch.cat([past_key.to(key), key], 2)
            values = torch.cat([past_value.to(value), value], 2)
        # With one key head the query heads are so many more rows: nothing need be repeated.
        seen = F.scaled_dot_product_attention(query.reshape(B, 1, -1, self.head_dim), keys, values)
        seen = seen.view(B, self.heads, tokens, -1).transpose(1, 2).reshape(B, tokens, -1)
        x = x + self.attended(seen) * gate
        y, gate = self.norms[1](x, told)
        x = x + self.down(F.gelu(self.gate(y), approximate="tanh") * self.up(y)) * gate
        return x, key, value


def rotations(first: int, count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (count, size / 2) of the positions from `first` on (RoPE)."""
    place = torch.arange(first, first + count, device=device, dtype=torch.float32)
    speed = 10_000.0 ** -(torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    angles = place[:, None] * speed
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """x (..., tokens, size), its halves rotated."""
    (cos, sin), (a, b) = rotary, x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def waves(tau: Tensor, width: int) -> Tensor:
    """(B,) to (B, width): sines and cosines with periods from 0.004 to 4."""
    exponents = torch.linspace(0, 1, width // 2, device=tau.device)
    angles = tau[:, None].float() * (2 * math.pi / (0.004 * 1000.0**exponents))
    return torch.cat([angles.sin(), angles.cos()], -1)
