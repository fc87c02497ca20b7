"""The policy's observation, from the tick ring and the camera rings.

Guarantees:
  - Nothing in an observation is older than its episode, nor a frame older than `max_age_ms`; where
    that cannot be had there is no observation, and `waiting_for` says why.
  - Histories are oldest first, newest last. Image histories are picked by capture time, which their
    cameras have corrected by their latencies: row i of every camera is of the same moment, within
    half of a frame's time. (Single images are each camera's newest.)
  - A frame is copied once, from its ring under the seqlock into the observation (with a history of
    images, which are picked by their times, twice). That memory is of the caller's kind: pinned,
    say, so that a device can fetch it by itself.
Assumption: an observation is used up before the next is made. Its images are then written over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt import clock
from rt.config import Config
from rt.infer.plan import Record
from rt.records import text
from rt.session import Session
from rt.shm import Ring

Zeros = Callable[[int, np.dtype[Any]], NDArray[Any]]


class Observer:
    """Builds `input_data` of `rt.infer.Policy`.

    zeros: (count, dtype) → the memory for images, (count,) of dtype: `np.zeros`, `pinned_zeros`.
    """

    def __init__(self, config: Config, session: Session, zeros: Zeros = np.zeros) -> None:
        p = config.params
        self.waiting_for = ""  # why the last `observe` gave None
        self._ticks = session.reader("tick")
        self._history = (p.proprio_history_size - 1) * p.ticks_per_row + 1  # ticks
        self._ticks_per_row = p.ticks_per_row
        self._past = np.zeros(self._history, self._ticks.dtype)
        self._cameras = {name: session.reader(f"frame.{name}") for name in p.camera_names}
        self._num_images = p.num_img_obs
        history = p.num_img_obs > 1  # which frames it is made of, their times tell
        self._frames = {
            name: np.zeros(ring.slots - 4, ring.dtype) if history else zeros(1, ring.dtype)
            for name, ring in self._cameras.items()
        }
        self._picked = {
            name: zeros(p.num_img_obs, ring.dtype["image"])
            for name, ring in self._cameras.items()
            if history
        }
        self._image_step_ns = round(p.img_obs_every * 1e9 / p.HZ)
        self._max_age_ns = p.max_age_ms * 1_000_000

    def observe(self, record: Record) -> dict[str, Any] | None:
        """The observation of the tick that `record` tells of, or None."""
        observation: dict[str, Any] = {"proprio": self._proprio(record)}
        frames = {}
        for name, ring in self._cameras.items():
            found = self._usable(name, ring, int(record["episode_t_start"]))
            if found is None:
                return None
            frames[name] = found
        observation |= self._images(frames)
        if prompt := text(record["prompt"]):
            observation["prompt"] = prompt
        self.waiting_for = ""
        return observation

    def _proprio(self, record: Record) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(proprio_history_size, state_dim) float32, one row apart; an episode shorter than the
        history repeats its oldest state."""
        newest = np.asarray(record["state"], np.float32)
        if self._history == 1:
            return newest[None].copy()
        have = min(self._history, self._ticks.head)
        lapped = self._ticks.read_window(self._past, have) is None
        past = self._past[: 0 if lapped else have]
        return past_states(record, past, self._history, self._ticks_per_row)

    def _usable(self, name: str, ring: Ring, t_episode: int) -> NDArray[Any] | None:
        """The camera's newest frames of this episode, oldest first; one if one is all we need."""
        frames = self._frames[name]
        count = min(ring.head, len(frames))
        if not count or ring.read_window(frames, count) is None:
            self.waiting_for = f"camera {name}: no frame yet"
            return None
        frames = frames[:count]
        t_newest = int(frames["t_capture"][-1])
        if problem := age_problem(t_newest, t_episode, clock.now_ns(), self._max_age_ns):
            self.waiting_for = f"camera {name}: {problem}"
            return None
        return frames[np.searchsorted(frames["t_capture"], t_episode) :]

    def _images(self, frames: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.uint8]]:
        """(num_img_obs, 3, height, width) uint8 of each camera, `img_obs_every` rows apart."""
        if not self._picked:
            return {name: found["image"] for name, found in frames.items()}
        times = {name: found["t_capture"] for name, found in frames.items()}
        picked = pick_frames(times, self._num_images, self._image_step_ns)
        images = {}
        for name, found in frames.items():
            at = picked[name]
            # The default mode copies through a buffer; none of these is out of bounds.
            images[name] = np.take(found["image"], at, axis=0, out=self._picked[name], mode="clip")
        return images


def past_states(
    record: Record, past: NDArray[Any], history: int, ticks_per_row: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(rows, state_dim) float32, a row apart: the states of the `history` ticks up to `record`.

    past: (n,) tick records, oldest first. Only those count that are of the record's episode and
    valid in it; before the oldest of them stands the oldest.
    """
    newest = np.asarray(record["state"], np.float32)
    usable = past[
        (past["episode"] == record["episode"])
        & (past["tick"] >= record["valid_from_tick"])
        & (past["tick"] <= record["tick"])
    ]
    wanted = int(record["tick"]) - np.arange(history - 1, -1, -ticks_per_row)
    if not len(usable):
        return np.repeat(newest[None], len(wanted), axis=0)
    at = np.maximum(np.searchsorted(usable["tick"], wanted, side="right") - 1, 0)
    states: np.ndarray[Any, np.dtype[np.float32]] = usable["state"][at].astype(np.float32)
    states[-1] = newest
    return states


def age_problem(t_newest: int, t_episode: int, now_ns: int, max_age_ns: int) -> str:
    """Why a camera's newest frame, of `t_newest`, cannot be observed at `now_ns`; "": it can."""
    if t_newest < t_episode:
        return "no frame of this episode yet"
    age = now_ns - t_newest
    if age < 0:  # no frame is newer than now: its stamp says nothing about its age
        return "the time of its newest frame lies in the future"
    return f"newest frame is {age // 1_000_000} ms old" if age > max_age_ns else ""


def pick_frames(
    times: Mapping[str, NDArray[np.int64]], count: int, step_ns: int
) -> dict[str, NDArray[np.intp]]:
    """Of each camera's capture times (n,), oldest first, the places (count,) of those nearest to
    moments `step_ns` apart, the last of them the newest that all cameras have seen."""
    t_newest = min((int(t[-1]) for t in times.values()), default=0)
    wanted = t_newest - np.arange(count - 1, -1, -1) * step_ns
    # Before the oldest stands the oldest.
    return {name: np.abs(t - wanted[:, None]).argmin(axis=1) for name, t in times.items()}


def example_observation(config: Config) -> dict[str, Any]:
    """An observation of the right shapes, for warm-up: a state of zeros and noise for images."""
    p = config.params
    size = p.mono_image_resize
    noise = np.random.default_rng(0)
    observation: dict[str, Any] = {
        name: noise.integers(0, 256, (p.num_img_obs, 3, size.height, size.width), np.uint8)
        for name in p.camera_names
    }
    observation["proprio"] = np.zeros((p.proprio_history_size, p.proprio_state_dim), np.float32)
    return observation
