"""What a launch tells, for people (`HumanLog`) or for programs (`JsonLog`)."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from rt import clock
from rt.cli import printable
from rt.errors import RtError
from rt.events import Event

FLOOD = 5  # events of one kind in one look; at 20 Hz there cannot be more


class Log(Protocol):
    """Where a launch's lines go."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def tell(self, event: Event) -> None:
        """Something that happened, in a line of its own."""

    def tell_all(self, events: Sequence[Event]) -> None:
        """What happened since the last look."""

    def show(self, line: str, every_s: float = 2.0) -> None:
        """How it is now, until the next such line; where lines stay, only every so often."""

    def end(self) -> None:
        """Nothing more is shown."""

    def fail(self, error: RtError) -> None:
        """The launch ends with `error`, whose sentence is for stderr."""


class HumanLog:
    """Lines to read: how it is now is rewritten on a terminal, and printed now and then elsewhere.
    What happens more often than can be read is counted."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._shown = ""
        self._written_at = 0.0  # time.monotonic

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._live and self._shown:
            print("\r\x1b[K", end="")
        print(line, flush=True)
        self._shown = ""

    def tell(self, event: Event) -> None:
        """Something that happened, in a line of its own."""
        self.say(printable(str(event)))

    def tell_all(self, events: Sequence[Event]) -> None:
        """What happened since the last look."""
        for event in folded(events):
            self.tell(event)

    def show(self, line: str, every_s: float = 2.0) -> None:
        """A line that the next one replaces. Not a terminal: only every so often."""
        line, now = printable(line), time.monotonic()  # a driver's words may be in it
        if self._live:
            print("\r\x1b[K" + line, end="", flush=True)
            self._shown = line
        elif line != self._shown and now - self._written_at >= every_s:
            print(line, flush=True)
            self._shown, self._written_at = line, now

    def end(self) -> None:
        """Leave the live line behind."""
        if self._live and self._shown:
            print(flush=True)
        self._shown = ""

    def fail(self, error: RtError) -> None:
        """The sentence begins a line of its own."""
        self.end()


class JsonLog:
    """One JSON object a line: `time` (UTC), `event` and `words` always; of what happened `t_ns`
    (CLOCK_MONOTONIC), and `tick` and `reason` where there are any. Nothing is folded.

    How it is now is not a line: that is for metrics.
    """

    def say(self, line: str) -> None:
        """A line that stays."""
        if line.strip():
            self._write(clock.now_ns(), {"event": "note", "words": line.strip()})

    def tell(self, event: Event) -> None:
        """Something that happened, in a line of its own."""
        fields = msgspec.to_builtins(event)
        if event.tick < 0:
            del fields["tick"]
        self._write(event.t_ns, fields)

    def tell_all(self, events: Sequence[Event]) -> None:
        """What happened since the last look."""
        for event in events:
            self.tell(event)

    def show(self, line: str, every_s: float = 2.0) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def fail(self, error: RtError) -> None:
        """The last line: why it ended."""
        self._write(clock.now_ns(), {"event": "failed", "words": str(error)})

    def _write(self, t_ns: int, what: dict[str, Any]) -> None:
        """`t_ns`: CLOCK_MONOTONIC, when it happened."""
        seconds = time.time() - (clock.now_ns() - t_ns) / 1e9
        then = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        line = {"time": then.isoformat(timespec="milliseconds")} | what
        print(msgspec.json.encode(line).decode(), flush=True)


def folded(events: Sequence[Event]) -> Iterator[Event]:
    """`events`, but of a kind that comes in a flood the last one alone, with how many there were.

    Control at 1 kHz can begin and end 500 holds a second.
    """
    alike: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        alike.setdefault((event.kind, event.reason), []).append(event)
    for event in events:
        many = alike[event.kind, event.reason]
        if len(many) <= FLOOD:
            yield event
        elif event is many[-1]:
            words = f"{event.words} (the last of {len(many)} since tick {many[0].tick})"
            yield msgspec.structs.replace(event, words=words)


LOGS: dict[str, Callable[[], Log]] = {"human": HumanLog, "json": JsonLog}
