"""Follows the rings of a session and hands what is new to the writer.

Guarantees:
  - Reads only, and registers nothing: no process of the session can notice it, nor be held up.
  - Every record from its start to its end is in the file, or counted as lost, by its ring.
Assumptions:
  - `step` is called before a ring comes round: of frames it may hold no more than eight.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

import msgspec

from rt import clock
from rt.cli import is_live
from rt.errors import NoSessionError, SegmentMissingError
from rt.events import Events
from rt.record.messages import RECORDER
from rt.record.origin import origin
from rt.record.output import new_output
from rt.record.sources import Chunks, Frames, Source, Ticks
from rt.record.writer import Channel, Message, Writer
from rt.records import STATUS
from rt.session import SHM, Session, ring_table
from rt.shm import Ring
from rt.tail import Tail

TELL_S = 1.0


class Recorder:
    """One recording of one session. Use as a context manager."""

    def __init__(self, session: Session, folder: Path) -> None:
        """Begins with what the rings still hold: so it misses nothing of a launch, and who starts
        it because of what just happened has that too.

        Raises NoSessionError; ConfigError if the folder cannot be written to.
        """
        self.over = False  # the session has ended
        self._session = session
        self._segment = self._session_segment()
        config = session.config()
        self._rings = _open_rings(session)
        self._offset_ns = offset_ns = time.time_ns() - clock.now_ns()
        events = Events(
            self._rings["chunk"], self._rings["status.inference"], config.params.ticks_per_row
        )
        sources: list[Source] = [Ticks(config, offset_ns, events), Chunks(config, offset_ns)]
        sources += [Frames(camera, offset_ns) for camera in config.params.camera_names]
        self._sources: list[tuple[Source, Tail]] = []
        self._refused = {source.ring: 0 for source in sources}  # by the writer
        self._told, self._tell_at = 0, 0.0
        channels = {t: c for source in sources for t, c in source.channels.items()}
        self.output = new_output(folder, session.name)
        about = origin(config, offset_ns)
        self._writer = Writer(self.output, channels | {RECORDER: Channel()}, about)
        # In turn, the frames last: they would leave their rings while a thousand ticks are encoded.
        for source in sources:
            self._sources.append((source, self._follow(source)))
            self._take()

    def _follow(self, source: Source) -> Tail:
        """From half a ring back: the other half may be overwritten while that is read. What lies
        further back is no part of the recording, and not lost."""
        ring = self._rings[source.ring]
        return Tail(ring, max(0, ring.head - ring.slots // 2))

    @property
    def lost(self) -> dict[str, int]:
        """By ring, the records that are not in the file: overwritten before they were read, or
        refused by the writer because the disk was too slow."""
        return {
            source.ring: tail.missed + self._refused[source.ring] for source, tail in self._sources
        }

    def __str__(self) -> str:
        lost = ", ".join(f"{count} of {ring}" for ring, count in self.lost.items() if count)
        size = f"{self._writer.size / 1e6:.1f} MB, {self._writer.messages} messages"
        return f"{self.output.path}: {size}, lost: {lost or 'none'}"

    def step(self) -> bool:
        """Take what is new. True once a second, when it was told in the file how it goes.

        Raises SessionError, in a sentence, when the disk has ended the recording.
        """
        if self._writer.error:
            raise self._writer.error
        self._take()
        if time.monotonic() < self._tell_at:
            return False
        self._tell_at = time.monotonic() + TELL_S
        self._tell()
        # A session of the same name that was started since is another one.
        same = self._session_segment() == self._segment
        self.over = not (same and is_live(self._session.name))
        return True

    def close(self) -> None:
        """Take what is left and finish the file. Raises as `step` does."""
        try:
            if not self._writer.error:
                self._take()
                self._tell()
        finally:
            for ring in self._rings.values():
                ring.close()
            self._writer.close()

    def _take(self) -> None:
        for source, tail in self._sources:
            records = tail.new()
            found = source.encode(records, tail.seen - len(records))  # events also without ticks
            if found and not self._writer.put(found):
                self._refused[source.ring] += len(records)

    def _tell(self) -> None:
        figures = {"lost": self.lost, "messages": self._writer.messages, "bytes": self._writer.size}
        t_ns = clock.now_ns() + self._offset_ns
        told = Message(RECORDER, t_ns, self._told, msgspec.json.encode(figures))
        self._writer.put([told], always=True)  # what was refused must not be refused as well
        self._told += 1

    def _session_segment(self) -> int:
        """What tells this session from a later one of its name; 0: it has ended."""
        try:
            return (SHM / f"rt.{self._session.name}.session").stat().st_ino
        except FileNotFoundError:
            return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _open_rings(session: Session) -> dict[str, Ring]:
    wanted = {name: dtype for name, (dtype, _) in ring_table(session.config()).items()}
    rings = {}
    try:
        for name, dtype in (wanted | {"status.inference": STATUS}).items():
            rings[name] = session.reader(name, dtype)
    except SegmentMissingError:
        raise NoSessionError(
            f"session {session.name!r} is just starting or ending: try again"
        ) from None
    return rings
