"""Real-Time Chunking's prefix weights, and guided inference for a decoder (arXiv 2506.07339).

torch is imported by the functions that need it: it takes seconds, and the weights do without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from rt.arrays import Weights
from rt.errors import PolicyError

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Literal["exp", "linear", "ones", "zeros"]


def compute_guided_prefix_weights(
    delay_steps: int, executed: int, total: int, *, schedule: Schedule = "exp"
) -> Weights:
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
        row i meets the new row i; missing rows are padded by its last. None or no rows: unguided.
    delay, executed_steps: d and s of the weights (schedule exp).
    num_queries, action_dim: H and A.
    input_noise: (B, H, A). None: drawn, with the batch, device and dtype of cond_memory where that
        is a tensor (batch first), else of prev_action_chunk. Raises PolicyError.
    """
    import torch

    from rt.infer.denoising import Guide, guided_denoise

    noise = input_noise
    if noise is None:
        noise = _noise_like(cond_memory, prev_action_chunk, num_queries, action_dim)
    guide = None
    if prev_action_chunk is not None and prev_action_chunk.shape[-2]:
        leftover = prev_action_chunk
        missing = num_queries - leftover.shape[-2]
        if missing > 0:
            leftover = torch.cat([leftover] + [leftover[..., -1:, :]] * missing, dim=-2)
        weights = compute_guided_prefix_weights(delay, executed_steps, num_queries)
        guide = Guide(leftover, torch.from_numpy(weights))

    def velocity(x: Tensor, tau: Tensor) -> Tensor:
        return action_decoder(
            time=tau,
            noise=x,
            memory_input=cond_memory,
            discrete_semantic_input=discrete_semantic_input,
        )

    return guided_denoise(
        velocity, noise, num_ode_sim_steps, guide, max_guidance_weight=max_guidance_weight
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
