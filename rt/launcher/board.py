"""The status line while a session runs, and the summary at its end."""

from __future__ import annotations

import time

from rt.events import Events
from rt.launcher.console import status_line, summary
from rt.launcher.log import Log
from rt.launcher.preview import Preview
from rt.launcher.supervisor import Supervisor
from rt.records import text
from rt.snapshot import Snapshots
from rt.statistics import TickStatistics

LOOK_S = 0.05  # between two looks at the children and the rings
SHOW_EVERY = 5  # looks between two status lines


class Board:
    """The status line, every event, and the summary at the end. Follows every tick."""

    def __init__(self, supervisor: Supervisor, log: Log) -> None:
        self._supervisor = supervisor
        self._log = log
        self._ticks = supervisor.session.reader("tick")
        self._chunks = supervisor.session.reader("chunk")
        self._chunk = self._chunks.buffer()
        self._inference = supervisor.session.reader("status.inference")
        self._status = self._inference.buffer()
        self._statistics = TickStatistics(self._ticks)
        self._events = Events(self._chunks, self._inference, supervisor.config.params.ticks_per_row)
        self._preview = Preview(supervisor.config)
        self._looks = 0
        duration = supervisor.config.run.duration_s
        self._end = time.monotonic() + duration if duration is not None else None

    @property
    def over(self) -> bool:
        """--duration has passed."""
        return self._end is not None and time.monotonic() >= self._end

    def look(self) -> None:
        """Once every LOOK_S."""
        self._looks += 1
        if self._looks % SHOW_EVERY:
            return
        self._take_ticks()
        chunk = self._chunk if self._chunks.read_latest(self._chunk) is not None else None
        self._inference.read_latest(self._status)
        dropped, why = int(self._status["dropped"]), text(self._status["detail"])
        for line in self._preview.lines(self._statistics.last, chunk):
            self._log.say(line)
        line = status_line(self._statistics, chunk, dropped, why)
        self._log.show(line)

    def _take_ticks(self) -> None:
        ticks = self._statistics.update()
        self._log.tell_all(self._events.of(ticks, self._statistics.missed))

    def close(self) -> None:
        """Take in the last ticks and print the summary."""
        self._take_ticks()
        self._log.end()
        snapshots = Snapshots(self._supervisor.session)
        for line in summary(self._statistics, snapshots, self._supervisor.restarts()):
            self._log.say(line)
        snapshots.close()
        self._ticks.close()
        self._chunks.close()
        self._inference.close()
