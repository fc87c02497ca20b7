"""From noise to actions by Euler's method: free, pulled by a leftover, or with a clean prefix.

tau runs 0 → 1, x(0) ~ N(0, I), x(1) = the actions. With the velocity v, the leftover Y of the
previous chunk, and W = diag(weights), one of n guided steps is (arXiv 2506.07339)

    x ← x + 1/n · (v + min(beta, (tau² + (1−tau)²) / (tau (1−tau))) · g)        Eqs. 1, 2, 4
    g = (Y − x̂)ᵀ W ∂x̂/∂x,   x̂ = x + (1−tau) v                                   Eqs. 2, 3

A network that was trained with clean prefixes (arXiv 2512.05964) needs no pull: its frozen rows
are the leftover's, at tau = 1, from the first step on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rt.errors import PolicyError

Velocity = Callable[[Tensor, Tensor], Tensor]
Step = Callable[..., Tensor]


class Guide(NamedTuple):
    """What a new chunk is tied to, and how strongly."""

    leftover: Tensor  # Y, (B or 1, H, A) or (H, A): row i meets the new row i
    # W, (H,), (H, A), or (B, H, A), where rows of the batch are tied each in its own way. Where it
    # is 0 the leftover is never looked at, be it NaN.
    weights: Tensor


def guidance_weight(tau: float, max_guidance_weight: float) -> float:
    """min(beta, (1−tau)/(tau·r²)), r² = (1−tau)²/(tau² + (1−tau)²); beta at tau = 0 (Eqs. 2, 4)."""
    if tau <= 0:
        return max_guidance_weight
    rest = 1 - tau
    return min(max_guidance_weight, (tau**2 + rest**2) / (tau * rest))


def guided_denoise(
    velocity: Velocity,
    noise: Tensor,
    num_steps: int,
    guide: Guide | None = None,
    *,
    max_guidance_weight: float = 5.0,
    vjp: bool = True,
    step: Step | None = None,
) -> Tensor:
    """Integrate `velocity` from noise to actions, pulled to the leftover: (B, H, A), noise's dtype.

    velocity: (x (B, H, A), tau (B,)) → (B, H, A), differentiable in x.
    noise: (B, H, A), a sample of N(0, I).
    num_steps: n ≥ 1 Euler steps.
    guide: its weights from `compute_guided_prefix_weights`. None: no guidance.
    max_guidance_weight: beta. Above 5 brings nothing, and too high diverges at n = 5.
    vjp: False takes the identity for ∂x̂/∂x, which is cheaper and not what the paper does.
    step: a compiled `guided_step`. One step is compiled, not the loop: n times shorter, and what
        changes from step to step and from chunk to chunk is a tensor, so once is enough.

    Works inside `torch.inference_mode()` (torch.func.vjp does; torch.autograd.grad does not) and
    never waits for the device. Raises PolicyError.
    """
    _check_steps(num_steps)
    step = step or guided_step
    guide = None if guide is None else _checked(guide, noise)
    x, length = noise, _scalar(noise, 1 / num_steps)
    with torch.no_grad():  # parameters that were not frozen would record every step
        for i in range(num_steps):
            tau = _time(noise, i / num_steps)
            strength = _scalar(noise, guidance_weight(i / num_steps, max_guidance_weight))
            x = step(velocity, x, tau, length, guide, strength, vjp)
    return x


def prefix_denoise(
    velocity: Velocity,
    noise: Tensor,
    num_steps: int,
    guide: Guide,
    *,
    step: Step | None = None,
) -> Tensor:
    """Integrate `velocity` while the frozen rows stay as the leftover has them: (B, H, A).

    velocity: (x (B, H, A), tau (B, H)) → (B, H, A), of a network trained with clean prefixes.
    guide: rows where its weights are 1 are frozen; see `guided_denoise` for the rest.
    step: a compiled `prefix_step`.
    Raises PolicyError.
    """
    _check_steps(num_steps)
    step = step or prefix_step
    leftover, weights = _checked(guide, noise)
    frozen = (weights >= 1).any(-1, keepdim=True)  # (B, H, 1) or (H, 1); padding has weight 0
    x, length = torch.where(frozen, leftover, noise), _scalar(noise, 1 / num_steps)
    with torch.no_grad():
        for i in range(num_steps):
            x = step(velocity, x, _time(noise, i / num_steps), length, frozen)
    return x


def guided_step(
    velocity: Velocity,
    x: Tensor,
    tau: Tensor,
    length: Tensor,
    guide: Guide | None,
    strength: Tensor,
    vjp: bool,
) -> Tensor:
    """x (B, H, A) one step of `length` () further (Eq. 1), pulled by `strength` () (Eqs. 2, 3)."""
    if guide is None:
        return x + length * _like(velocity(x, tau), x)
    rest = (1 - tau)[:, None, None]

    def clean(x: Tensor) -> tuple[Tensor, Tensor]:
        v = _like(velocity(x, tau), x)
        return x + rest * v, v

    if vjp:
        estimate, pull_back, v = torch.func.vjp(clean, x, has_aux=True)  # type: ignore[misc]
        (g,) = pull_back(guide.weights * (guide.leftover - estimate))
    else:
        estimate, v = clean(x)
        g = guide.weights * (guide.leftover - estimate)
    moved: Tensor = x + length * (v + strength * g)
    return moved


def prefix_step(
    velocity: Velocity, x: Tensor, tau: Tensor, length: Tensor, frozen: Tensor
) -> Tensor:
    """x (B, H, A) one step of `length` () further, but for `frozen` rows (B, H, 1) or (H, 1)."""
    rows = tau[:, None].expand(x.shape[:2]).masked_fill(frozen[..., 0], 1)
    return torch.where(frozen, x, x + length * _like(velocity(x, rows), x))


def _like(v: Any, x: Tensor) -> Tensor:
    """What a network answered, in x's dtype, which under autocast it may not be. Raises PolicyError
    for no floats of x's shape, some of which would be broadcast unseen."""
    if not isinstance(v, Tensor) or v.shape != x.shape or not v.is_floating_point():
        got = f"{tuple(v.shape)} {v.dtype}" if isinstance(v, Tensor) else type(v).__name__
        raise PolicyError(
            f"the network's velocity must be a tensor {tuple(x.shape)} of floats, like x, got {got}"
        )
    return v.to(x.dtype)


def _time(noise: Tensor, tau: float) -> Tensor:
    """(B,). Filled on the device: a tensor made on the host would be waited for."""
    return torch.full(noise.shape[:1], tau, dtype=noise.dtype, device=noise.device)


def _scalar(noise: Tensor, value: float) -> Tensor:
    """(), at least float32: a factor that rounds no coarser than x does, and promotes nothing."""
    dtype = torch.promote_types(noise.dtype, torch.float32)
    return torch.full((), value, dtype=dtype, device=noise.device)


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise PolicyError(f"denoising takes at least 1 step, got num_steps = {num_steps}")


def _checked(guide: Guide, noise: Tensor) -> Guide:
    """Y (B or 1, H, A) or (H, A) and W (H, 1), (H, A) or (B, H, A) on the noise's device, in its
    dtype."""
    B, H, A = noise.shape
    leftover, weights = guide
    if tuple(leftover.shape) not in ((B, H, A), (1, H, A), (H, A)):
        raise PolicyError(
            f"the leftover to guide by must be {(B, H, A)} or {(H, A)} like the noise, "
            f"got {tuple(leftover.shape)}"
        )
    if tuple(weights.shape) not in ((H,), (H, A), (B, H, A)):
        raise PolicyError(
            f"guidance by a leftover of {H} rows needs weights ({H},), got {tuple(weights.shape)}"
        )
    weights = weights.to(noise)
    weights = weights[:, None] if weights.ndim == 1 else weights
    # 0 · NaN is NaN: rows that pull nowhere are taken out, not multiplied out.
    return Guide(leftover.to(noise).masked_fill(weights == 0, 0), weights)
