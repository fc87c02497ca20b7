"""A row of bars, one for each span of time, the newest at the right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

from numpy.typing import NDArray

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.:-=+*#"


def sparkline(values: Sequence[float | None], *, ascii_only: bool = False) -> str:
    """One character a value, from 0 to the largest of them; a blank for None and what is not
    finite."""
    bars = ASCII_BARS if ascii_only else BARS
    top = max((v for v in values if _is_number(v)), default=0)

    def bar(value: float) -> str:
        share = max(0.0, value / top) if top > 0 else 0.0
        return bars[min(int(share * len(bars)), len(bars) - 1)]

    return "".join(bar(v) if _is_number(v) else " " for v in values)


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


class Worst:
    """The largest value in each span of time, of the newest `keep` spans."""

    def __init__(self, span_ns: int, keep: int) -> None:
        self._span_ns = span_ns
        self._keep = keep
        self._worst: dict[int, int] = {}  # by number of the span

    def add(self, t_ns: NDArray[Any], values: NDArray[Any]) -> None:
        """`values` (n,) at the times `t_ns` (n,), integers."""
        for span, value in zip((t_ns // self._span_ns).tolist(), values.tolist(), strict=True):
            self._worst[span] = max(value, self._worst.get(span, value))
        for old in sorted(self._worst)[: -self._keep]:
            del self._worst[old]

    @property
    def values(self) -> list[int | None]:
        """(keep,) oldest first; None where there was nothing."""
        newest = max(self._worst, default=0)
        return [self._worst.get(span) for span in range(newest - self._keep + 1, newest + 1)]
