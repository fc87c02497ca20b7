"""The demonstration policy's network: a small flow-matching model over whole action chunks.

`encode` runs once per inference, `velocity` once per Euler step (and, guided, once backward). The
network predicts the clean chunk x1; the velocity follows from it. Both are smooth in `x` and free
of data-dependent control flow, as `torch.func.vjp` and `torch.compile` want them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rt.errors import ConfigError

MIN_REMAINING = 0.1  # 1 - tau is never taken smaller: v = (x1 - x) / (1 - tau) stays finite


class Mixer(nn.Module):
    """A guess of the clean chunk from a noisy one, told what was seen as a context (B, c)."""

    def __init__(
        self,
        *,
        action_dim: int,
        action_horizon: int,
        context_dim: int,
        rows_per_token: int,
        width: int,
        depth: int,
    ) -> None:
        """context_dim: c. A token is `rows_per_token` consecutive rows, `width` numbers wide.

        Raises ConfigError if the horizon cannot be divided so.
        """
        if action_horizon % rows_per_token:
            raise ConfigError(
                f"action_horizon {action_horizon} is not a multiple of rows_per_token "
                f"{rows_per_token}: change one of them in the flow component's params and retrain"
            )
        super().__init__()
        self.action_dim = action_dim
        self.action_horizon = action_horizon
        tokens = action_horizon // rows_per_token
        self.embed = nn.Linear(rows_per_token * action_dim, width)
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.time = nn.Sequential(
            nn.Linear(32, context_dim), nn.SiLU(), nn.Linear(context_dim, context_dim)
        )
        self.blocks = nn.ModuleList(MixerBlock(tokens, width, context_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, rows_per_token * action_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def clean(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, A): the guess of the actions at tau = 1, from `x` (B, H, A) at `tau` (B,)."""
        condition = context + self.time(fourier(tau))
        tokens = self.embed(x.reshape(x.shape[0], self.place.shape[0], -1)) + self.place
        for block in self.blocks:
            tokens = block(tokens, condition)
        guess: Tensor = self.head(self.norm(tokens)).reshape(x.shape)
        return guess


class FlowModel(Mixer):
    """Velocity field v(x, tau | observation) over chunks of H rows by A joints, normalised."""

    batches = True

    def __init__(
        self,
        *,
        state_dim: int,
        action_dim: int,
        action_horizon: int,
        camera_names: Sequence[str],
        image_height: int = 60,
        image_width: int = 80,
        num_img_obs: int = 1,
        keypoints: int = 16,
        context_dim: int = 128,
        rows_per_token: int = 5,
        width: int = 128,
        depth: int = 3,
    ) -> None:
        """Images of any size are averaged down to `image_height` x `image_width` first.

        `keypoints` are found per image; the last four are Mixer's. Raises ConfigError.
        """
        super().__init__(
            action_dim=action_dim,
            action_horizon=action_horizon,
            context_dim=context_dim,
            rows_per_token=rows_per_token,
            width=width,
            depth=depth,
        )
        self.state_dim = state_dim
        self.camera_names = tuple(camera_names)
        self.num_img_obs = num_img_obs
        self.image_size = (image_height, image_width)
        self.eyes = nn.ModuleDict(
            {name: KeypointEye(3 * num_img_obs, keypoints) for name in self.camera_names}
        )
        seen = 2 * keypoints * len(self.camera_names)
        self.context = nn.Sequential(
            nn.Linear(seen + state_dim, 2 * context_dim),
            nn.SiLU(),
            nn.Linear(2 * context_dim, context_dim),
        )

    def encode(self, observation: dict[str, Tensor]) -> Tensor:
        """What `velocity` needs to know of an observation, (B, context_dim) float32.

        `observation`: "proprio" (B, history, state_dim) float32, normalised, newest last; each
        camera (B, num_img_obs, 3, height, width) uint8.
        """
        state = observation["proprio"][:, -1]
        seen = [eye(self.shrink(observation[name])) for name, eye in self.eyes.items()]
        context: Tensor = self.context(torch.cat([*seen, state], dim=-1))
        return context

    def shrink(self, images: Tensor) -> Tensor:
        """(B, n, 3, height, width) uint8 to (B, 3 n, image_height, image_width) in -1..1."""
        images = images.flatten(1, 2).to(torch.float32)
        if images.shape[-2:] != self.image_size:
            images = F.adaptive_avg_pool2d(images, self.image_size)
        return images / 127.5 - 1.0

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        """(B, H, A): dx/dtau at `x` (B, H, A) and `tau` (B,); tau 0 is noise, 1 the actions."""
        remaining = (1.0 - tau).clamp(min=MIN_REMAINING)[:, None, None]
        return (self.clean(context, x, tau) - x) / remaining


class KeypointEye(nn.Module):
    """Convolutions and a spatial softmax: where in the image each of its features is.

    Levine et al. 2016 (arXiv 1504.00702): the expected pixel of every feature map, in -1..1.
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(channels, 12, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, keypoints, 1),
        )
        # Maps start small: unsharpened, every keypoint would sit in the middle and learn slowly.
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))  # log

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) to (B, 2 keypoints): every x, then every y."""
        maps = self.maps(images)
        height, width = maps.shape[-2:]
        weights = torch.softmax(maps.flatten(2) * self.sharpness.exp(), dim=-1).view_as(maps)
        x = torch.linspace(-1.0, 1.0, width, device=maps.device)
        y = torch.linspace(-1.0, 1.0, height, device=maps.device)
        return torch.cat([weights.sum(-2) @ x, weights.sum(-1) @ y], dim=-1)


class MixerBlock(nn.Module):
    """Mixes along the tokens, then along the features; both told the condition (FiLM).

    After MLP-Mixer (arXiv 2105.01601): for a handful of tokens it is cheaper than attention.
    """

    def __init__(self, tokens: int, width: int, condition: int) -> None:
        super().__init__()
        self.film = nn.Linear(condition, 4 * width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.along_tokens = _mlp(tokens, 4 * tokens)
        self.along_features = _mlp(width, 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, tokens, width), condition (B, condition) to (B, tokens, width)."""
        scale1, shift1, scale2, shift2 = self.film(condition)[:, None].chunk(4, dim=-1)
        mixed = self.norms[0](x) * (1.0 + scale1) + shift1
        x = x + self.along_tokens(mixed.transpose(1, 2)).transpose(1, 2)
        mixed = self.norms[1](x) * (1.0 + scale2) + shift2
        out: Tensor = x + self.along_features(mixed)
        return out


def _mlp(size: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size))


def fourier(tau: Tensor) -> Tensor:
    """(B,) in 0..1 to (B, 32): sines and cosines at 16 frequencies."""
    frequencies = torch.exp(torch.linspace(0.0, math.log(100.0), 16, device=tau.device))
    angles = tau[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
