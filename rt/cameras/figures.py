"""How the cameras fare, from the capture times in their rings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rt import clock
from rt.shm import Ring

LAST_FRAMES = 5  # that a rate is taken from; the rings hold a few more


def camera_figures(frames: Mapping[str, Ring], t_state: int) -> dict[str, Any]:
    """`cameras`: of each its newest frame's age, its rate, and its skew: by how much that frame is
    younger than the state measured at `t_state`, ns (0: none was). `cameras_apart_ms`: how far the
    cameras' newest frames lie apart. None where it cannot be told.

    frames: camera → its ring.
    """
    now = clock.now_ns()
    times = {name: _capture_times(ring) for name, ring in frames.items()}
    newest = [seen[-1] for seen in times.values() if seen]
    return {
        "cameras": [
            {
                "name": name,
                "age_ms": _ms(now - seen[-1]) if seen else None,
                "rate_hz": _rate_hz(seen),
                "skew_ms": _ms(seen[-1] - t_state) if seen and t_state else None,
            }
            for name, seen in times.items()
        ],
        "cameras_apart_ms": _ms(max(newest) - min(newest)) if newest else None,
    }


def _capture_times(ring: Ring) -> list[int]:
    """Of its newest frames, ns, oldest first."""
    frames = np.zeros(min(ring.head, LAST_FRAMES), ring.dtype)
    if not len(frames) or ring.read_window(frames, len(frames)) is None:
        return []
    times: list[int] = frames["t_capture"].tolist()
    return times


def _rate_hz(times: list[int]) -> float | None:
    took_ns = times[-1] - times[0] if times else 0
    return round((len(times) - 1) * 1e9 / took_ns, 1) if took_ns > 0 else None


def _ms(ns: int) -> float:
    return round(ns / 1e6, 1)
