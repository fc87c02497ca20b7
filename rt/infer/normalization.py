"""Robot units to the policy's units and back, from the statistics of its training data.

Which formula, and from which file: rt.infer.statistics_file.

A policy whose actions are relative to the state that it saw ("delta actions") gets its normaliser
`anchored` at that state: chunks and leftovers are absolute everywhere else.

A pickle of statistics runs code when it is read, so it is converted once, to JSON, by an unpickler
that admits nothing but arrays, numbers and dicts:

    python -m rt.infer.normalization convert stats.pkl stats.json
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rt.arrays import Chunk, Vector
from rt.errors import PolicyError, RtError
from rt.infer.affine import IDENTITY, Affine, Scaling, X
from rt.infer.statistics_file import read_affines


@dataclass(frozen=True)
class Normalizer:
    """What a policy is handed as `data_normalization_interface`."""

    state: Affine
    action: Affine
    delta: NDArray[np.bool_] | None = None  # (A,): joints whose action is relative to the state

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing, whatever the state."""
        return self.state is IDENTITY and self.action is IDENTITY and self.delta is None

    def anchored(self, state: Vector | Chunk) -> Normalizer:
        """Itself for an inference from `state` (state_dim,), robot units, state_dim >= A.

        Relative actions are x − state, so that only the offset moves. Raises PolicyError.
        """
        if self.delta is None:
            return self
        if state.shape[-1] < len(self.delta):
            raise PolicyError(
                f"delta actions of {len(self.delta)} joints need a state of at least as many dims, "
                f"got {state.shape[-1]}"
            )
        anchor = np.where(self.delta, state[: len(self.delta)], 0.0)
        offset, scale = self.action.offset + anchor, self.action.scale + np.zeros(len(anchor))
        action = Affine(offset, scale, self.action.shift)
        return Normalizer(self.state, action, self.delta)

    def normalize_state(self, state: X) -> X:
        """(..., state_dim), robot units → the policy's."""
        return self.state.apply(state)

    def normalize_action(self, action: X) -> X:
        """(..., action_dim), robot units → the policy's."""
        return self.action.apply(action)

    def denormalize_action(self, action: X) -> X:
        """(..., action_dim), the policy's units → the robot's."""
        return self.action.invert(action)

    @classmethod
    def identity(cls) -> Normalizer:
        """For a policy that speaks robot units."""
        return cls(IDENTITY, IDENTITY)

    @classmethod
    def load(
        cls,
        path: Path | str,
        state_dim: int,
        action_dim: int,
        *,
        mode: Scaling = "z-score",
        delta: NDArray[np.bool_] | None = None,
    ) -> Normalizer:
        """Read a file of statistics, of any of the kinds in rt.infer.statistics_file.

        Raises ConfigError for a file that is none, a missing key, a list that does not fit the
        dims, a value that is not a finite number, a std that is not above 0, and an upper bound
        below its lower one.
        """
        return cls(*read_affines(Path(path), state_dim, action_dim, mode), delta)


def main(argv: list[str]) -> int:
    """`convert in.pkl out.json`. Returns the exit code."""
    if len(argv) != 3 or argv[0] != "convert":
        print("usage: python -m rt.infer.normalization convert IN.pkl OUT.json", file=sys.stderr)
        return 2
    from rt.infer.statistics_pickle import convert_pickle

    try:
        convert_pickle(Path(argv[1]), Path(argv[2]))
    except RtError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
