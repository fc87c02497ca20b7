"""Measure a model's stages without waiting for the device between them."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

import torch


class Stopwatch:
    """Moments in a stream of work. On CUDA they are events, so that timing adds no wait."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def mark(self) -> Any:
        """This moment."""
        if not self._cuda:
            return perf_counter_ns()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(self, start: Any, end: Any) -> int:
        """Nanoseconds from one mark to another, once the work up to `end` is known to be done."""
        return round(start.elapsed_time(end) * 1e6) if self._cuda else int(end - start)
