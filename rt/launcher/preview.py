"""What the policy would do, told before the operator lets a real robot move."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from rt.arrays import Vector
from rt.config import Config
from rt.records import Hold


class Preview:
    """Told once: when control waits for `go` and a first chunk has been computed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._names = config.joint_names
        self._told = False

    def lines(self, tick: Any, chunk: Any) -> list[str]:
        """What to say now of the newest tick and chunk record (None: there is none yet)."""
        if self._told or tick is None or chunk is None or int(tick["hold"]) != Hold.WAITING:
            return []
        self._told = True
        config, measured, rows = self._config, tick["state"], chunk["actions"].astype(float)
        step = np.abs(np.diff(rows, axis=0)).max(axis=0)
        way = np.nan_to_num(np.abs(config.initial_rad - measured))  # NaN: a joint that stays
        seconds = (way / config.initial_delta_rad_per_tick).max() / config.control_hz
        return [
            "the robot stands still until you let it move:",
            f"  initial pose   {self._largest(way)} away, reached in about {seconds:.1f} s",
            f"  first chunk    largest step {self._largest(step)} a row; its first row is "
            f"{self._largest(np.abs(rows[0] - measured))} from where the robot is",
            f"  episodes       {self._episodes()}",
            f"  it moves after {sys.executable} -m rt.command go --session {config.run.session}",
        ]

    def _episodes(self) -> str:
        params = self._config.params
        if not params.episode_ticks:
            return "one, until rt.command next_episode"
        seconds = params.episode_ticks / params.HZ
        return f"of {seconds:g} s; after each it goes back to the initial pose and begins the next"

    def _largest(self, difference_rad: Vector) -> str:
        worst = int(np.argmax(difference_rad))
        return f"{np.rad2deg(difference_rad[worst]):.1f} deg ({self._names[worst]})"
