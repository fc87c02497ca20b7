"""What a launch tells, for people (`Console`) or for programs (`JsonLog`)."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from rt.events import Event
from rt.launcher.console import Console


class Log(Protocol):
    """Where a launch's lines go."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def tell(self, event: Event) -> None:
        """Something that happened, in a line of its own."""

    def show(self, line: str, now: float, every_s: float = 2.0) -> None:
        """How it is now, at `now` (time.monotonic), until the next such line."""

    def end(self) -> None:
        """Nothing more is shown."""


class JsonLog:
    """One JSON object a line: `time` (UTC), `event` and `words` always; `tick` and `reason` where
    there are any. How it is now is not a line: that is for metrics."""

    def say(self, line: str) -> None:
        """A line that stays."""
        if line.strip():
            self._write({"event": "note", "words": line.strip()})

    def tell(self, event: Event) -> None:
        """Something that happened, in a line of its own."""
        self._write(msgspec.to_builtins(event))

    def show(self, line: str, now: float, every_s: float = 2.0) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def _write(self, what: dict[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        print(msgspec.json.encode({"time": now} | what).decode(), flush=True)


LOGS: dict[str, Callable[[], Log]] = {"human": Console, "json": JsonLog}
