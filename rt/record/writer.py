"""The file, written by a thread of its own behind a queue of bounded size.

Guarantees:
  - `put` never waits: what does not fit is refused, and its caller counts it.
  - What was put a second before a kill, or a loss of power, can be read if the disk kept up.
  - Of a disk that is nearly full enough is left for others, and the file is finished in order; if a
    write fails all the same, what was written before can be read.
Assumptions:
  - One thread puts and closes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, NamedTuple, cast

from mcap.writer import Writer as Mcap

from rt.errors import SessionError
from rt.record.messages import RosType
from rt.record.output import FREE_BYTES, Output, free_bytes

PROFILE, LIBRARY = "ros2", "rt"  # what MCAP's header tells others
FLUSH_S = 1.0
CHUNK_BYTES = 2**20  # before compression
QUEUE_BYTES = 64 * 2**20  # a disk that stands still for ten seconds, with three cameras


class Channel(NamedTuple):
    """What a topic carries; without a type: JSON."""

    type: RosType | None = None
    metadata: Mapping[str, str] = {}


class Message(NamedTuple):
    """`t_ns`: when it was published, of the wall clock. `sequence`: what it is the n-th of."""

    topic: str
    t_ns: int
    sequence: int
    data: bytes


class Writer:
    """Writes one file from its beginning to its end."""

    def __init__(
        self,
        output: Output,
        channels: Mapping[str, Channel],
        metadata: Mapping[str, Mapping[str, str]],
    ) -> None:
        """Channels by topic."""
        self.error: Exception | None = None
        """Why nothing more is written: SessionError, in a sentence, if the disk is the reason."""
        self.messages = 0  # written
        self._output = output
        self._channels = channels
        self._metadata = metadata
        self._ids: dict[str, int] = {}
        # Checksums of all, not of the chunks alone: the metadata lie outside of them.
        self._mcap = Mcap(cast(IO[Any], output), chunk_size=CHUNK_BYTES, enable_data_crcs=True)
        self._queue: SimpleQueue[list[Message] | None] = SimpleQueue()  # None: the end
        self._put = self._taken = 0  # bytes, each counted by one thread only
        self._thread = Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """Of the file, bytes."""
        return self._output.tell()

    def put(self, messages: list[Message], *, always: bool = False) -> bool:
        """Have them written: all, or with False none. always: however full the queue is."""
        size = sum(len(message.data) for message in messages)
        if not always and self._put - self._taken + size > QUEUE_BYTES:
            return False
        self._put += size
        self._queue.put(messages)
        return True

    def close(self) -> None:
        """Write what was put, and finish the file. Raises `error`, if there is one."""
        self._queue.put(None)
        self._thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        try:
            self._begin()
            self._write_all()
            self._mcap.finish()
            self._output.flush()
        except OSError as error:  # the file ends behind the last write: mcap cannot finish it now
            self.error = self._stopped(f"{error.strerror}: what was written before it can be read")
        except Exception as error:
            self.error = error
        finally:
            self._output.close()

    def _begin(self) -> None:
        self._mcap.start(PROFILE, LIBRARY)
        for name, values in self._metadata.items():
            self._mcap.add_metadata(name, dict(values))
        schemas: dict[RosType, int] = {}
        for topic, (type_, metadata) in self._channels.items():
            if type_ and type_ not in schemas:
                name, definition = type_
                schemas[type_] = self._mcap.register_schema(name, "ros2msg", definition.encode())
            encoding, schema = ("cdr", schemas[type_]) if type_ else ("json", 0)
            self._ids[topic] = self._mcap.register_channel(topic, encoding, schema, dict(metadata))

    def _write_all(self) -> None:
        """Until the end, or until the disk is nearly full."""
        flush_at = time.monotonic() + FLUSH_S
        while True:
            try:
                messages = self._queue.get(timeout=max(0.0, flush_at - time.monotonic()))
            except Empty:
                messages = []
            if messages is None:
                return
            for topic, t_ns, sequence, data in messages:
                self._mcap.add_message(self._ids[topic], t_ns, data, t_ns, sequence % 2**32)
                self._taken += len(data)
            self.messages += len(messages)
            if time.monotonic() >= flush_at:
                self._mcap.flush()
                flush_at = time.monotonic() + FLUSH_S
                free = free_bytes(self._output.path.parent)
                if free < FREE_BYTES:
                    self.error = self._stopped(
                        f"{free / 1e6:.0f} MB are free on its disk, and {FREE_BYTES / 1e6:.0f} MB "
                        "are left to others: what was recorded until then is whole"
                    )
                    return

    def _stopped(self, why: str) -> SessionError:
        return SessionError(
            f"the recording {self._output.path} has stopped: {why}; free some, or record to "
            "another folder"
        )
