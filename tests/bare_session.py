"""A session as it lies in shared memory, without processes: the test publishes its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from numpy.typing import NDArray

from rt.config import Config
from rt.records import STATUS
from rt.session import Lock, Session, ring_table
from rt.shm import Ring


class BareSession:
    """It lives, and may be looked at, until `end`. Use as a context manager."""

    def __init__(self, config: Config, children: Sequence[str] = ()) -> None:
        """children: that have a status, which may stay unwritten."""
        self.config = config
        self.session = Session(config.run.session)
        self._lock = Lock(self.session.name, "supervisor")
        statuses = {f"status.{child}": (STATUS, 8) for child in children}
        self.session.create(ring_table(config) | statuses)
        self.session.publish_config(config)
        self._writers: dict[str, Ring] = {}

    def writer(self, ring: str) -> Ring:
        if ring not in self._writers:
            self._writers[ring] = self.session.writer(ring)
        return self._writers[ring]

    def publish(self, ring: str, record: NDArray[Any] | None = None, **fields: Any) -> Any:
        """A record of the ring, as given but for these fields; returns it."""
        whole = self.writer(ring).buffer()
        if record is not None:
            whole[...] = record
        for name, value in fields.items():
            whole[name] = value
        self.writer(ring).write(whole)
        return whole

    def release_lock(self) -> None:
        """As a supervisor does that dies: everything else is still there."""
        self._lock.release()

    def end(self) -> None:
        """As a supervisor ends it. Harmless when it has ended."""
        for ring in self._writers.values():
            ring.close()
        self._writers = {}
        self.session.clean()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
