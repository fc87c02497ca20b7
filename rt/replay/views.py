"""A policy's observation, from a recording: picked as `rt.infer.observation` picks.

The images are JPEG by now. When a frame could first be seen is not recorded: it is taken to be when
it was captured, and its camera's `latency_ms` later.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.cameras.jpeg import decode
from rt.infer.observation import age_problem, past_states, pick_frames
from rt.infer.plan import Record
from rt.record.reading import Recording
from rt.records import text
from rt.session import ring_table


class Camera:
    """One camera's frames up to a moment that moves on, as many as its ring held."""

    def __init__(self, recording: Recording, name: str, keep: int) -> None:
        config = recording.config
        real = config.robot.cameras.get(name) if config.run.opens_cameras else None
        self.frames: deque[tuple[int, bytes]] = deque(maxlen=keep)  # captured at, ns; JPEG
        self._latency_ns = round(real.latency_ms * 1e6) if real else 0
        self._coming = recording.frames(name)
        self._next = next(self._coming, None)

    def until(self, now_ns: int) -> None:
        """Take what could be seen by then, which is no earlier than the last time."""
        while self._next is not None and self._next[0] + self._latency_ns <= now_ns:
            self.frames.append(self._next)
            self._next = next(self._coming, None)


class Views:
    """Builds `input_data` of `rt.infer.Policy` from recorded frames and replayed ticks."""

    def __init__(self, recording: Recording) -> None:
        config = recording.config
        params = config.params
        table = ring_table(config)
        self._params = params
        self._history = (params.proprio_history_size - 1) * params.ticks_per_row + 1  # ticks
        self._image_step_ns = round(params.img_obs_every * 1e9 / params.HZ)
        self._cameras = {
            name: Camera(recording, name, table[f"frame.{name}"][1] - 4)
            for name in params.camera_names
        }

    def observe(self, ticks: list[Record], now_ns: int) -> dict[str, Any] | None:
        """The observation of the last of `ticks`, as it could be made at `now_ns`; or None."""
        record, params = ticks[-1], self._params
        past = np.stack(ticks[-self._history :])
        proprio = past_states(record, past, self._history, params.ticks_per_row)
        found = {}
        for name, camera in self._cameras.items():
            camera.until(now_ns)
            found[name] = self._usable(camera, int(record["episode_t_start"]), now_ns)
        if not all(found.values()):
            return None
        observation: dict[str, Any] = {"proprio": proprio} | self._images(found)
        if prompt := text(record["prompt"]):
            observation["prompt"] = prompt
        return observation

    def _usable(self, camera: Camera, t_episode: int, now_ns: int) -> list[tuple[int, bytes]]:
        """The camera's frames of this episode, oldest first; none if the newest is too old."""
        max_age_ns = self._params.max_age_ms * 1_000_000
        frames = list(camera.frames)
        if not frames or age_problem(frames[-1][0], t_episode, now_ns, max_age_ns):
            return []
        return [frame for frame in frames if frame[0] >= t_episode]

    def _images(self, found: dict[str, list[tuple[int, bytes]]]) -> dict[str, NDArray[np.uint8]]:
        if self._params.num_img_obs == 1:  # each camera's newest
            return {name: decode(frames[-1][1])[None] for name, frames in found.items()}
        times = {name: np.array([t for t, _ in frames]) for name, frames in found.items()}
        picked = pick_frames(times, self._params.num_img_obs, self._image_step_ns)
        return {
            name: np.stack([decode(frames[i][1]) for i in picked[name]])
            for name, frames in found.items()
        }
