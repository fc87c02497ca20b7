"""A policy for IGRIS_B that asks for more than any limit allows, and misbehaves on command.

Its `orders` is a file that holds `FAULT CHUNKS [SECONDS]`: the next so many chunks have the fault.
What is left is written back before each, so that a fault which ends the process counts too; the
file is empty once all were given.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rt import clock
from rt.arrays import Chunk

HORIZON, HZ = 16, 20.0
ARMS_DEG = (-20, -30, 0, 120, 0, 0, 20, 30, 0, -120, 0, 0)  # left, right: the initial pose
SWINGS = np.isin(np.arange(24), (4, 5, 10, 11, *range(12, 24)))  # wrists and fingers: clear of all
NOISE = np.random.default_rng(0)
SWING_RAD, SWING_S = 3.0, 2.0  # further than any limit, and faster than any slew limit
MEMORY = 256 << 20  # bytes that it may still have in "memory"


def _fill_memory() -> None:
    """As a policy does that keeps what it has seen, in a process that may not have it all."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, before[1]))
    try:
        kept = []
        while True:
            kept.append(np.ones(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _raise(error: BaseException) -> None:
    raise error


def _kill_self() -> None:
    """As the kernel does when memory is out."""
    os.kill(os.getpid(), signal.SIGKILL)


# What happens before the chunk is given, and what becomes of the chunk.
ACTS: dict[str, Callable[[], None]] = {
    "hang": lambda: time.sleep(3600),
    "raise": lambda: _raise(RuntimeError("the model is confused")),
    "memory": _fill_memory,
    "killed": _kill_self,
    "exit": lambda: _raise(SystemExit(3)),
    "gpu_memory": lambda: _raise(torch.OutOfMemoryError("CUDA out of memory")),
    "gpu_lost": lambda: _raise(torch.AcceleratorError("CUDA error: device-side assert triggered")),
}
ANSWERS: dict[str, Callable[[Chunk], Any]] = {
    "nan": lambda chunk: chunk * np.float32(np.nan),
    "one_inf": lambda chunk: np.where(np.arange(24) == 7, np.float32(np.inf), chunk),
    "short": lambda chunk: chunk[:-1],
    "narrow": lambda chunk: chunk[:, :-1],
    "nothing": lambda chunk: None,
    "list": lambda chunk: chunk.tolist(),
    "absurd": lambda chunk: np.where(SWINGS, chunk * np.float32(1e30), chunk),
    "noise": lambda chunk: np.where(SWINGS, NOISE.normal(0, 3, chunk.shape), chunk).astype("f4"),
}


class Misbehaving:
    """`rt.infer.Policy`."""

    default_component_class = "torch.nn.Identity"

    def __init__(self, components: dict[str, nn.Module], *, orders: str) -> None:
        self._orders = Path(orders)

    def predict(self, input_data: dict[str, Any], normalizer: Any) -> Any:
        """A swing, or what was ordered; in warm-up, whose state is all zeros, always a swing."""
        words = self._orders.read_text().split() if input_data["proprio"].any() else []
        if not words:
            return _swing()
        fault, left, *seconds = words
        rest = [fault, str(int(left) - 1), *seconds] if int(left) > 1 else []
        written = self._orders.with_suffix(".new")
        written.write_text(" ".join(rest))
        written.replace(self._orders)
        if seconds:
            time.sleep(float(*seconds))
        if fault in ACTS:
            ACTS[fault]()
        return ANSWERS.get(fault, lambda chunk: chunk)(_swing())

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Any, executed: int, horizon: int
    ) -> Any:
        """Asked by `rtc`: the same."""
        return self.predict(input_data, normalizer)

    def warmup(self) -> None:
        """Nothing to warm."""

    def freeze_all_model_params(self) -> None:
        """Nothing to freeze."""


def _swing() -> Chunk:
    """(H, A) float32 rad, from now on."""
    t_s = clock.now_ns() / 1e9 + np.arange(HORIZON)[:, None] / HZ
    pose = np.radians([*ARMS_DEG, *[40] * 12])
    return (pose + SWINGS * SWING_RAD * np.sin(2 * np.pi * t_s / SWING_S)).astype(np.float32)
