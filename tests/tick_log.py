"""Every tick of a session, as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from launched import Launched, until
from numpy.typing import NDArray

from rt.config import Config
from rt.records import Hold, Phase
from rt.session import Session
from rt.statistics import TickStatistics

ROOM = 2048  # ticks, at first


class TickLog:
    """Every tick record, oldest first. Look at it every few seconds, or the ring comes round."""

    def __init__(self, session: Session, wait: Callable[..., Any] = until) -> None:
        """`wait` is `until`, or that of a launch, which sees whether it lives."""
        ring = session.reader("tick")
        self.config: Config = session.config()
        self.statistics = TickStatistics(ring)
        self._room = np.zeros(ROOM, ring.dtype)
        self._count = 0
        self._wait = wait

    def look(self) -> None:
        """Take in the ticks that came since the last look."""
        new = self.statistics.update()
        begin, self._count = self._count, self._count + len(new)
        while self._count > len(self._room):
            self._room = np.concatenate([self._room, np.zeros_like(self._room)])
        self._room[begin : self._count] = new

    @property
    def ticks(self) -> NDArray[Any]:
        """All ticks so far."""
        self.look()
        return self._room[: self._count]

    @property
    def last(self) -> Any:
        """The newest tick; None before the first."""
        ticks = self.ticks
        return ticks[-1] if len(ticks) else None

    def since(self, tick: Any) -> NDArray[Any]:
        """The ticks after that one; None: all."""
        ticks = self.ticks
        begin = 0 if tick is None else np.searchsorted(ticks["tick"], tick["tick"], side="right")
        return ticks[begin:]

    def when(self, what: str, true: Callable[[Any], object], after: Any = None) -> Any:
        """The first tick of which `true` holds: after the tick `after`, else from now on."""
        newest = self.last if after is None else after

        def find() -> Any:
            nonlocal newest
            new = self.since(newest)
            newest = new[-1] if len(new) else newest
            return next((tick for tick in new if true(tick)), None)

        try:
            return self._wait(what, find)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last}") from None


def follow(run: Launched) -> TickLog:
    """The ticks of a launch, once control ticks."""
    run.when("a tick", lambda seen: seen["tick_stats"]["count"] > 0)
    return TickLog(Session(run.session), run.until)


def executes(tick: Any) -> bool:
    """Whether a row of a chunk was sent."""
    return tick is not None and tick["phase"] == Phase.RUN and tick["hold"] == Hold.NONE


def holds(ticks: NDArray[Any]) -> Counter[str]:
    """How many ticks held, by reason."""
    numbers, counts = np.unique(ticks["hold"][ticks["hold"] > 0], return_counts=True)
    return Counter({Hold(number).name: int(n) for number, n in zip(numbers, counts, strict=True)})
