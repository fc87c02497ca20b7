"""The delta expert: one denoising step that starts from the actions that are about to be executed.

The next N actions of the chunk in use, the action context, are encoded and stretched to the whole
horizon. The encoded context is the x_t of a single Euler step, from t = 0.5 to 1, of an expert
that reads the policy's own cached prefix:

    delta = (1 − t) · v(prefix, x_t, t),   t = 0.5

In `replace` x_t is the encoded context and x_t + delta is the chunk: the policy itself does not
denoise. In `add` the policy's denoised chunk x is corrected: x_t is the encoded context + x, and
x + delta is the chunk. Without a context zeros stand where the encoded context would.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rt.errors import ConfigError, PolicyError

STEP_TIME = 0.5  # t of the one step; the same in either convention of time
CONTEXT_ROWS = 5  # N

Correction = Literal["replace", "add"]
WithoutContext = Literal["zeros", "keep"]


class ActionContextEncoder(nn.Module):
    """Linear · ReLU · Linear on every row, then as many rows as the chunk has."""

    def __init__(self, action_dim: int, hidden_size: int, action_horizon: int) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.action_horizon = action_horizon
        self.rows = nn.Sequential(
            nn.Linear(action_dim, hidden_size), nn.ReLU(), nn.Linear(hidden_size, action_dim)
        )

    def forward(self, action_context: Tensor) -> Tensor:
        """(B, N, a), normalised, a ≤ A, to (B, H, A). Raises PolicyError for another shape."""
        shape = tuple(action_context.shape)
        missing = self.action_dim - shape[-1]
        if len(shape) != 3 or not shape[1] or missing < 0:
            raise PolicyError(
                f"an action context is (B, N, up to {self.action_dim} actions) with N of at least "
                f"1, got {shape}: leave the key out where fewer rows are left"
            )
        encoded = self.rows(F.pad(action_context, (0, missing)))
        return stretch(encoded, self.action_horizon)


def stretch(rows: Tensor, length: int) -> Tensor:
    """(B, N, A) to (B, length, A): repeated from the first row on if shorter, interpolated
    linearly between its first and its last row if longer, as it is if equal."""
    count = rows.shape[1]
    if count < length:
        repeats = -(-length // count)
        return rows.repeat(1, repeats, 1)[:, :length]
    if count > length:
        columns = rows.transpose(1, 2)
        # Ends on ends: row 0 of the context is row 0 of the chunk, both are due now.
        columns = F.interpolate(columns, length, mode="linear", align_corners=length > 1)
        return columns.transpose(1, 2)
    return rows


class DeltaExpert(nn.Module):
    """The encoder and the expert's one step.

    `expert` is any module with `velocity(prefix, x, tau)` as in rt.infer.policies.flow; what it
    makes of the prefix is its own affair: a vector for the demonstration policy, a KV cache for a
    vision-language-action model.
    """

    def __init__(
        self,
        expert: nn.Module,
        *,
        action_dim: int,
        action_horizon: int,
        hidden_size: int = 128,
        context_rows: int = CONTEXT_ROWS,
        correction: Correction = "replace",
        without_context: WithoutContext = "zeros",
    ) -> None:
        """action_dim, action_horizon: A and H inside the network. context_rows: N to ask for.

        without_context: `zeros` steps from zeros, as the expert may have been trained to; `keep`
        leaves the policy's own chunk as it is, which is what a task wants that can be done in two
        ways: an expert that cannot know which one is under way answers with their mean.
        Raises ConfigError.
        """
        super().__init__()
        for name, value, known in (
            ("correction", correction, get_args(Correction)),
            ("without_context", without_context, get_args(WithoutContext)),
        ):
            if value not in known:
                raise ConfigError(
                    f"a delta expert's {name}: expected {' or '.join(known)}, got {value!r}"
                )
        if context_rows < 1:
            raise ConfigError(
                f"a delta expert's context_rows: expected at least 1, got {context_rows}"
            )
        self.shape = (action_horizon, action_dim)
        self.context_rows = context_rows
        self.correction = correction
        self.without_context = without_context
        self.encoder = ActionContextEncoder(action_dim, hidden_size, action_horizon)
        self.expert: Any = expert

    def encode(self, action_context: Tensor | None, like: Tensor) -> Tensor:
        """(B, H, A): x_t of the one step from an action context (B, N, a), normalised; from none,
        zeros, as many and of the type and device of `like` (B, ...)."""
        if action_context is None:
            return like.new_zeros(len(like), *self.shape)
        encoded: Tensor = self.encoder(action_context)
        return encoded

    def forward(self, prefix: Any, start: Tensor) -> Tensor:
        """delta (B, H, A): where the one step from `start` (B, H, A) at t = 0.5 leads, less it."""
        time = start.new_full(start.shape[:1], STEP_TIME)
        velocity: Tensor = self.expert.velocity(prefix, start, time)
        return (1 - STEP_TIME) * velocity

    def chunk(self, prefix: Any, encoded: Tensor, denoised: Tensor | None = None) -> Tensor:
        """The chunk (B, H, A) that the expert makes of the prefix.

        encoded: (B, H, A), of `encode`.
        denoised: (B, H, A), the policy's own chunk, to be corrected. None: to be replaced.
        """
        if denoised is None:
            corrected, start = encoded, encoded
        else:
            corrected, start = denoised, encoded + denoised
        chunk: Tensor = corrected + self(prefix, start)
        return chunk


def delta_loss(
    chunk: Tensor, actions: Tensor, context_rows: int, is_pad: Tensor | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Mean squared error of a chunk (B, H, A) to `actions` (B, H, a), a ≤ A, both normalised.

    is_pad: (B, H) bool, rows past the end of the recording, which do not count.
    The dict: "loss", and of it "context" (the first `context_rows` rows, which a context all but
    gives away) and "rest".
    """
    error = (chunk[..., : actions.shape[-1]] - actions).square().mean(-1)
    counts = torch.ones_like(error) if is_pad is None else (~is_pad).to(error.dtype)

    def mean(rows: slice) -> Tensor:
        return (error * counts)[:, rows].sum() / counts[:, rows].sum().clamp(min=1)

    loss = mean(slice(None))
    parts = {
        "loss": loss,
        "context": mean(slice(0, context_rows)),
        "rest": mean(slice(context_rows, None)),
    }
    return loss, {name: value.item() for name, value in parts.items()}
