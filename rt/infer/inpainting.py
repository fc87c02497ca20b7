"""Real-Time Chunking's mathematics: prefix weights and guided denoising (arXiv 2506.07339).

tau runs 0 → 1, x(0) ~ N(0, I), x(1) = the actions. With the velocity v, the leftover Y of the
previous chunk, and W = diag(weights), one of n Euler steps is

    x ← x + 1/n · (v + min(beta, (tau² + (1−tau)²) / (tau (1−tau))) · g)        Eqs. 1, 2, 4
    g = (Y − x̂)ᵀ W ∂x̂/∂x,   x̂ = x + (1−tau) v                                   Eqs. 2, 3

torch is imported by the functions that need it: it takes seconds, and the weights do without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from rt.errors import PolicyError

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Literal["exp", "linear", "ones", "zeros"]
Velocity = Callable[["Tensor", "Tensor"], "Tensor"]
Evaluate = Callable[..., "tuple[Tensor, Tensor | None]"]


def compute_guided_prefix_weights(
    delay_steps: int, executed: int, total: int, *, schedule: Schedule = "exp"
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """How strongly row i of the new chunk is pulled to the leftover (Eq. 5): (total,) float32.

    1 for i < d; then, with c = (H−s−i) / (H−s−d+1), c(e^c−1)/(e−1) (`exp`), c (`linear`),
    1 (`ones`) or 0 (`zeros`, a hard mask); 0 from H−s on, where nothing of the old chunk is left.

    delay_steps: d, rows that will be executed while this chunk is computed. More than H−s is H−s.
    executed: s, rows of the old chunk that were executed before. More than H is H.
    total: H, rows of a chunk.
    Raises PolicyError for a negative number or an unknown schedule.
    """
    if min(delay_steps, executed, total) < 0:
        raise PolicyError(
            "prefix weights need delay_steps, executed and total of at least 0, got "
            f"{delay_steps}, {executed} and {total}: count them in rows"
        )
    end = total - min(executed, total)
    frozen = min(delay_steps, end)
    c = (end - np.arange(frozen, end)) / (end - frozen + 1)
    weights = np.zeros(total, np.float32)
    weights[:frozen] = 1
    if schedule == "exp":
        weights[frozen:end] = c * np.expm1(c) / math.expm1(1)
    elif schedule == "linear":
        weights[frozen:end] = c
    elif schedule == "ones":
        weights[frozen:end] = 1
    elif schedule != "zeros":
        names = ", ".join(get_args(Schedule))
        raise PolicyError(f"schedule {schedule!r} of the prefix weights is none of {names}")
    return weights


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
    *,
    leftover: Tensor | None = None,
    weights: Tensor | None = None,
    max_guidance_weight: float = 5.0,
    vjp: bool = True,
    evaluate: Evaluate | None = None,
) -> Tensor:
    """Integrate `velocity` from noise to actions, pulled to `leftover`: (B, H, A), noise's dtype.

    velocity: (x (B, H, A), tau (B,)) → (B, H, A), differentiable in x.
    noise: (B, H, A), a sample of N(0, I).
    num_steps: n ≥ 1 Euler steps.
    leftover: Y, (B, H, A) or (H, A), row i meets the new chunk's row i. None: no guidance.
    weights: (H,), from `compute_guided_prefix_weights`. What the leftover holds where they are 0
        is never looked at, be it NaN.
    max_guidance_weight: beta. Above 5 brings nothing, and too high diverges at n = 5.
    vjp: False takes the identity for ∂x̂/∂x, which is cheaper and not what the paper does.
    evaluate: a compiled `velocity_and_pull`. One step is compiled, not the loop: n times shorter.

    Works inside `torch.inference_mode()` (torch.func.vjp does; torch.autograd.grad does not) and
    never waits for the device. Raises PolicyError.
    """
    import torch

    if num_steps < 1:
        raise PolicyError(f"denoising takes at least 1 step, got num_steps = {num_steps}")
    evaluate = evaluate or velocity_and_pull
    target, mask = (None, None) if leftover is None else _guide(noise, leftover, weights)
    x = noise
    with torch.no_grad():  # parameters that were not frozen would record every step
        for step in range(num_steps):
            tau = step / num_steps
            time = torch.full(x.shape[:1], tau, dtype=x.dtype, device=x.device)
            v, g = evaluate(velocity, x, time, target, mask, vjp)
            if g is not None:
                v = v + guidance_weight(tau, max_guidance_weight) * g
            x = x + v / num_steps
    return x


def _guide(noise: Tensor, leftover: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Y (B or 1, H, A) and W (H, 1) on the noise's device, in its dtype; checked."""
    import torch

    B, H, A = noise.shape
    if tuple(leftover.shape) not in ((B, H, A), (1, H, A), (H, A)):
        raise PolicyError(
            f"the leftover to guide by must be {(B, H, A)} or {(H, A)} like the noise, "
            f"got {tuple(leftover.shape)}"
        )
    if weights is None or tuple(weights.shape) != (H,):
        got = "none" if weights is None else str(tuple(weights.shape))
        raise PolicyError(f"guidance by a leftover of {H} rows needs weights ({H},), got {got}")
    mask = weights.to(noise)[:, None]
    # 0 · NaN is NaN: rows that pull nowhere are taken out, not multiplied out.
    return torch.where(mask != 0, leftover.to(noise), 0), mask


def velocity_and_pull(
    velocity: Velocity,
    x: Tensor,
    tau: Tensor,
    target: Tensor | None,
    mask: Tensor | None,
    vjp: bool,
) -> tuple[Tensor, Tensor | None]:
    """v and g (Eqs. 2, 3) at x (B, H, A) and tau (B,): a step's work, in one graph.

    target: Y, (B or 1, H, A); None: g is None. mask: W, (H, 1).
    """
    import torch

    if target is None or mask is None:
        return velocity(x, tau), None
    rest = (1 - tau)[:, None, None]

    def clean(x: Tensor) -> tuple[Tensor, Tensor]:
        v = velocity(x, tau)
        return x + rest * v, v

    if not vjp:
        estimate, v = clean(x)
        return v, mask * (target - estimate)
    estimate, pull_back, v = torch.func.vjp(clean, x, has_aux=True)  # type: ignore[misc]
    (g,) = pull_back(mask * (target - estimate))
    return v, g


def guided_action_chunk_inference(
    action_decoder: Callable[..., Tensor],
    cond_memory: Any,
    discrete_semantic_input: Any,
    prev_action_chunk: Tensor | None,
    delay: int,
    executed_steps: int,
    num_ode_sim_steps: int,
    num_queries: int,
    action_dim: int,
    max_guidance_weight: float = 5.0,
    input_noise: Tensor | None = None,
) -> Tensor:
    """`guided_denoise` for a decoder: (B, num_queries, action_dim).

    action_decoder: called with `time=` (B,), `noise=` (B, H, A), `memory_input=cond_memory` and
        `discrete_semantic_input=`; returns the velocity (B, H, A).
    prev_action_chunk: the leftover, (B, h, A) or (h, A) with h ≤ H: already shifted, so that its
        row i meets the new row i; missing rows are padded by its last. None: unguided.
    delay, executed_steps: d and s of the weights (schedule exp).
    num_queries, action_dim: H and A.
    input_noise: (B, H, A). None: drawn, with the batch, device and dtype of cond_memory where that
        is a tensor (batch first), else of prev_action_chunk. Raises PolicyError.
    """
    import torch

    noise = input_noise
    if noise is None:
        noise = _noise_like(cond_memory, prev_action_chunk, num_queries, action_dim)
    leftover = prev_action_chunk
    weights = None
    if leftover is not None:
        missing = num_queries - leftover.shape[-2]
        if missing > 0 and leftover.shape[-2]:
            leftover = torch.cat([leftover] + [leftover[..., -1:, :]] * missing, dim=-2)
        weights = torch.from_numpy(
            compute_guided_prefix_weights(delay, executed_steps, num_queries)
        )

    def velocity(x: Tensor, tau: Tensor) -> Tensor:
        return action_decoder(
            time=tau,
            noise=x,
            memory_input=cond_memory,
            discrete_semantic_input=discrete_semantic_input,
        )

    return guided_denoise(
        velocity,
        noise,
        num_ode_sim_steps,
        leftover=leftover,
        weights=weights,
        max_guidance_weight=max_guidance_weight,
    )


def _noise_like(memory: Any, leftover: Tensor | None, H: int, A: int) -> Tensor:
    import torch

    batch, like = 1, torch.zeros(())
    if leftover is not None:
        batch, like = leftover.shape[0] if leftover.ndim == 3 else 1, leftover
    if isinstance(memory, torch.Tensor):
        batch, like = memory.shape[0], memory
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return torch.randn(batch, H, A, dtype=dtype, device=like.device)
