"""A session to record, and its recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bare_session import BareSession
from launched import unique_session
from numpy.typing import NDArray

from rt import clock
from rt.record.recorder import Recorder
from rt.testing import config


class RecordedSession(BareSession):
    """With the processes that a recording knows."""

    def __init__(self, name: str = "", **overrides: Any) -> None:
        """`overrides`: of rt.testing.config."""
        made = config(session=name or unique_session("record"), **overrides)
        super().__init__(made, ("inference", "record"))

    def publish_ticks(self, ticks: Sequence[int]) -> None:
        """Tick records that were done now."""
        for tick in ticks:
            self.publish("tick", tick=tick, t_state=clock.now_ns(), t_done=clock.now_ns())


def record_all(session: RecordedSession, folder: Path, publish: Callable[[], object]) -> Path:
    """Record what `publish` publishes in one go; returns the file."""
    with Recorder(session.session, folder) as recorder:
        publish()
        recorder.step()
    return recorder.output.path


def scene(height: int, width: int, red: int = 200) -> NDArray[np.uint8]:
    """An image (3, height, width) that JPEG keeps: red rises to the right, blue downwards."""
    image = np.zeros((3, height, width), np.uint8)
    image[0] = np.linspace(0, red, width).astype(np.uint8)
    image[2] = np.linspace(0, 100, height).astype(np.uint8)[:, None]
    return image
