"""Ctrl-C, SIGTERM and hang-up, as a flag. Imports nothing heavy: it is installed first of all."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FORCE_AFTER_S = 0.3


class Interrupted(BaseException):
    """Asked to end, in the middle of work that has no place to look at a flag."""


class Interrupt:
    """True once somebody asked us to end. A second Ctrl-C, a moment later, calls `force`.

    Only Ctrl-C: a terminal that hangs up sends SIGHUP several times at once, and a robot is not to
    be killed for that.
    """

    def __init__(self) -> None:
        self.force: Callable[[], None] = lambda: None  # runs in the handler: must not wait
        self._asked_at: float | None = None
        self._raising = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: object) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif number == signal.SIGINT and now - self._asked_at > FORCE_AFTER_S:
            self.force()
        if self._raising:
            self._raising = False
            raise Interrupted

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within, a request raises Interrupted: for imports and loading in this process."""
        if self:
            raise Interrupted
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def __bool__(self) -> bool:
        return self._asked_at is not None
