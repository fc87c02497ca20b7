"""A recording of two episodes, with all that is no part of them."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import RecordedSession, scene

from rt import clock
from rt.config import ImageSize
from rt.record.reading import Recording
from rt.record.recorder import Recorder
from rt.records import Hold, Phase

PERIOD_NS = 50_000_000
SEEN_NS = 10_000_000  # an image is captured so long before its tick
# How many ticks, of which episode, in which phase and hold.
SCRIPT = (
    (5, 0, Phase.INITIAL_POSE, Hold.NONE),
    (3, 1, Phase.RUN, Hold.WARMUP),
    (10, 1, Phase.RUN, Hold.NONE),  # ticks 8 to 17
    (4, 1, Phase.RUN, Hold.EXPIRED),
    (6, 1, Phase.RUN, Hold.NONE),  # 22 to 27
    (4, 1, Phase.INITIAL_POSE, Hold.NONE),
    (3, 2, Phase.RUN, Hold.WARMUP),
    (8, 2, Phase.RUN, Hold.NONE),  # 35 to 42
    (3, 2, Phase.PAUSED, Hold.PAUSED),
    (20, 2, Phase.RUN, Hold.NONE),  # 46 to 65
    (2, 2, Phase.STOPPED, Hold.STOPPED),
)
EXECUTED = {1: [*range(8, 18), *range(22, 28)], 2: [*range(35, 43), *range(46, 66)]}
LEFT_OUT = "initial_pose 9, hold warmup 6, hold expired 4, hold paused 3, hold stopped 2"
LAST_IMAGE = 50  # the tick that it is for; half a second later it is too old to be observed
UNSEEN = 7  # rows, the last ones: each camera has an image for every other tick
PROMPTS = {1: "", 2: "pick up the cup"}
CHUNK_ROWS = 8  # so many are executed of each
COUNTED = 2  # rows, the delay of each


def record_two_episodes(folder: Path, **overrides: Any) -> Recording:
    """Record that at 20 Hz, in many MCAP chunks. overrides: of rt.testing.config."""
    size = ImageSize(width=128, height=96)
    values: dict[str, Any] = {"camera_names": ("head", "hand"), "mono_image_resize": size}
    with pytest.MonkeyPatch.context() as patch, RecordedSession(**values | overrides) as session:
        patch.setattr("rt.record.writer.CHUNK_BYTES", 4000)
        with Recorder(session.session, folder) as recorder:
            for tick in _ticks(clock.now_ns()):
                _publish(session, tick)
                recorder.step()
    return Recording(recorder.output.path)


def _publish(session: RecordedSession, tick: dict[str, Any]) -> None:
    k, t_wake, params = tick["tick"], tick["t_wake"], session.config.params
    size = params.mono_image_resize
    for turn, camera in enumerate(params.camera_names):
        if k % 2 == turn and k <= LAST_IMAGE:
            image = scene(size.height, size.width, red=50 + 53 * k % 200)
            session.publish(f"frame.{camera}", t_capture=t_wake - SEEN_NS, image=image)
    if k == tick["chunk_first_used_tick"]:
        planned = 1 + tick["chunk"] % 2  # every other one comes late
        session.publish("chunk", d_planned=planned, t_publish=t_wake - 1, obs_tick=k - COUNTED)
    session.publish("tick", **tick)


def _ticks(t_ns: int) -> Iterator[dict[str, Any]]:
    draw, k, chunk, t_episode, last = np.random.default_rng(0), 0, -1, 0, 0
    for count, episode, phase, hold in SCRIPT:
        for i in range(count):
            t_due = t_ns + k * PERIOD_NS
            if episode != last:
                t_episode, last = t_due, episode
            tick = {
                "tick": k,
                "episode": episode,
                "episode_t_start": t_episode,
                "phase": phase,
                "hold": hold,
                "t_state": t_due - 1_000_000,
                "t_due": t_due,
                "t_wake": t_due + 100_000,
                "t_done": t_due + 900_000,
                "prompt": PROMPTS.get(episode, "").encode(),
                "state": draw.normal(size=2),
                "command": draw.normal(size=2),
            }
            if phase == Phase.RUN and hold == Hold.NONE:
                chunk += i % CHUNK_ROWS == 0
                yield tick | _use(k, chunk, i % CHUNK_ROWS)
            else:
                yield tick | {"row": -1, "chunk": -1, "chunk_first_used_tick": -1}
            k += 1


def _use(k: int, chunk: int, used: int) -> dict[str, Any]:
    """Of the tick that executes a row of the chunk, of which `used` were executed before."""
    return {
        "row": used + COUNTED,
        "chunk": chunk,
        "chunk_first_tick": k - used - COUNTED,
        "chunk_first_used_tick": k - used,
    }


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: to its writer a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
