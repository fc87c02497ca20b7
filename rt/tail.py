"""Every record of a ring, in order, as it comes: for whoever must not miss one.

Guarantees:
  - What was overwritten before we came is counted in `missed`, never passed over in silence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.shm import Ring

MARGIN = 64  # slots left free for the writer while we copy the rest; of a small ring a quarter


class Tail:
    """Follows a ring; look often enough that it does not come round."""

    def __init__(self, ring: Ring, first: int = 0) -> None:
        """first: ring index of the first record that is asked for."""
        self.missed = 0  # records that were overwritten before we came
        self.seen = first  # records published so far, missed ones included: the index of the next
        self._ring = ring
        self._room = np.zeros(ring.slots - min(MARGIN, ring.slots // 4), ring.dtype)

    def new(self) -> NDArray[Any]:
        """The records since the last call, oldest first; the next call writes over them. The last
        one's index is `seen - 1`."""
        while True:
            count = min(self._ring.head - self.seen, len(self._room))
            newest = self._ring.read_window(self._room, count) if count > 0 else None
            if newest is None:
                return self._room[:0]
            if newest + 1 - count <= self.seen or count == len(self._room):
                break  # else: more were published between the two looks at head; take those too
        self.missed += newest + 1 - count - self.seen
        self.seen = newest + 1
        return self._room[:count]

    def by_index(self) -> dict[int, Any]:
        """As `new`, by ring index, oldest first; copies."""
        records = self.new()
        return {i: r.copy() for i, r in enumerate(records, self.seen - len(records))}
