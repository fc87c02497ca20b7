"""When each chunk came into use, and after how many rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt.config import Config
from rt.records import counted_delay


class Delay(NamedTuple):
    """A chunk's delay, rows."""

    t_s: float  # when it was first used, or published if it never was; 0: the last tick
    planned: int | None  # None: its record is gone
    counted: int

    @property
    def late(self) -> bool:
        """Longer than planned."""
        return self.planned is not None and self.counted > self.planned


def delays(config: Config, ticks: NDArray[Any], chunks: dict[int, Any]) -> list[Delay]:
    """Of every chunk in the time of `ticks` whose delay was counted, the oldest first. It is not of
    those that started cold.

    ticks: (n,), consecutive records. chunks: records by ring index; a chunk whose record is gone is
    known from the ticks that used it.
    """
    found = []
    for tick in swaps(ticks):
        chunk = chunks.get(int(tick["chunk"]))
        counted = counted_delay(tick["chunk_first_tick"], tick["tick"], config.params.ticks_per_row)
        if counted and (chunk is None or not chunk["cold"]):  # 0: it was cold
            planned = None if chunk is None else int(chunk["d_planned"])
            found.append(Delay(seconds_before_last(ticks, tick["t_wake"]), planned, counted))
    used = set(ticks["chunk"].tolist())
    for index, chunk in chunks.items():
        after = chunks.get(index + 1)
        if index in used or after is None or after["previous_d_counted"] < 0:
            continue
        if chunk["t_publish"] >= ticks["t_wake"][0]:
            t_s = seconds_before_last(ticks, chunk["t_publish"])
            found.append(Delay(t_s, int(chunk["d_planned"]), int(after["previous_d_counted"])))
    return sorted(found, key=lambda delay: delay.t_s)


def swaps(ticks: NDArray[Any]) -> NDArray[Any]:
    """The ticks that first executed a row of their chunk."""
    found: NDArray[Any] = ticks[ticks["tick"] == ticks["chunk_first_used_tick"]]
    return found


def seconds_before_last(ticks: NDArray[Any], t_ns: Any) -> Any:
    """`t_ns`, a time or many, as seconds since the last tick woke: negative before it."""
    return np.subtract(t_ns, ticks["t_wake"][-1]) / 1e9
