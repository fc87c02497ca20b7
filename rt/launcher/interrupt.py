"""Ctrl-C, SIGTERM and hang-up, as a flag. Imports nothing heavy: it is installed first of all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(BaseException):
    """Asked to end, in the middle of work that has no place to look at a flag."""


class Interrupt:
    """True once somebody asked us to end. A second request calls `force`."""

    def __init__(self) -> None:
        self.force: Callable[[], None] = lambda: None
        self._asked = 0
        self._raising = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._asked += 1
        if self._asked > 1:
            self.force()
        if self._raising:
            self._raising = False
            raise Interrupted

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within, a request raises Interrupted: for imports and loading in this process."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def __bool__(self) -> bool:
        return self._asked > 0
