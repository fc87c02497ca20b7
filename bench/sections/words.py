"""How figures are written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def ratio(pairs: Sequence[float]) -> str:
    """The median of the pairs' ratios, and their range."""
    return f"**{statistics.median(pairs):.2f}×** ({min(pairs):.2f} to {max(pairs):.2f})"
