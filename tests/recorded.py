"""A session to record that has rings and no processes: the test publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from launched import PATIENCE_S, unique_session
from numpy.typing import NDArray

from rt import clock
from rt.config import Config
from rt.record.recorder import Recorder
from rt.records import STATUS
from rt.session import Lock, Session, ring_table
from rt.shm import Ring
from rt.testing import config


class RecordedSession:
    """It lives, and may be recorded, until `end`. Use as a context manager."""

    def __init__(self, name: str = "", **overrides: Any) -> None:
        """`overrides`: of rt.testing.config."""
        name = name or unique_session("record")
        self.config: Config = config(session=name, **overrides)
        self.session = Session(name)
        self._lock = Lock(name, "supervisor")
        self._table = ring_table(self.config) | {
            "status.inference": (STATUS, 4),
            "status.record": (STATUS, 4),
        }
        self.session.create(self._table)
        self.session.publish_config(self.config)
        self.rings: dict[str, Ring] = {
            ring: self.session.writer(ring) for ring in self._table if ring != "status.record"
        }

    def publish(self, ring: str, record: NDArray[Any] | None = None, **fields: Any) -> Any:
        """A record of the ring, as given or of these fields; returns it."""
        whole = self.rings[ring].buffer()
        if record is not None:
            whole[...] = record
        for name, value in fields.items():
            whole[name] = value
        self.rings[ring].write(whole)
        return whole

    def publish_ticks(self, ticks: Sequence[int]) -> None:
        """Tick records that were done now."""
        for tick in ticks:
            self.publish("tick", tick=tick, t_state=clock.now_ns(), t_done=clock.now_ns())

    def release_lock(self) -> None:
        """As a supervisor does that dies: everything else is still there."""
        self._lock.release()

    def end(self) -> None:
        """As a supervisor ends it. Harmless when it has ended."""
        for ring in self.rings.values():
            ring.close()
        self.rings = {}
        self.session.clean()
        self._lock.release()

    def __enter__(self) -> RecordedSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def record_all(session: RecordedSession, folder: Path, publish: Callable[[], object]) -> Path:
    """Record what `publish` publishes in one go; returns the file."""
    with Recorder(session.session, folder) as recorder:
        publish()
        recorder.step()
    return recorder.output.path


def wait_for(happened: Callable[[], Any]) -> Any:
    """What `happened` returns, once it is something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (result := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return result


def scene(height: int, width: int, red: int = 200) -> NDArray[np.uint8]:
    """An image (3, height, width) that JPEG keeps: red rises to the right, blue downwards."""
    image = np.zeros((3, height, width), np.uint8)
    image[0] = np.linspace(0, red, width).astype(np.uint8)
    image[2] = np.linspace(0, 100, height).astype(np.uint8)[:, None]
    return image
