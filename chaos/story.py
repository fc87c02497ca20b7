"""Every tick of a launch against a fake robot, as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from launched import Launched, until
from numpy.typing import NDArray

from rt.config import Config
from rt.records import Hold, Phase, text
from rt.session import Session
from rt.statistics import TickStatistics

HERE = Path(__file__).parent
# Of a chunk that ran out; NOT_DUE: the next one is there already.
STARVING = frozenset({"EXPIRED", "STARVED", "NO_CHUNK", "NOT_DUE"})


def swinging(folder: Path) -> tuple[Path, Path]:
    """The YAML of a policy that swings (`stand_ins.misbehaving`), and the file of its orders. Who
    runs it finds it with PYTHONPATH=HERE."""
    policy, orders = folder / "policy.yaml", folder / "orders"
    orders.touch()
    policy.write_text(
        yaml.safe_dump(
            {
                "model": {"component_config_paths": {"model": {"params": {}}}},
                "policy": {"type": "stand_ins.misbehaving:Misbehaving", "orders": str(orders)},
            }
        )
    )
    return policy, orders


class Story:
    """Every tick record, oldest first. Look at it every few seconds, or the ring comes round."""

    def __init__(self, run: Launched) -> None:
        """Returns once control ticks."""
        run.when("a tick", lambda s: s["tick_stats"]["count"] > 0)
        self._run = run
        session = Session(run.session)
        self.config: Config = session.config()
        self.statistics = TickStatistics(session.reader("tick"))
        self._parts: list[NDArray[Any]] = []
        self.look()

    def look(self) -> None:
        """Take in the ticks that came since the last look."""
        new = self.statistics.update()
        if len(new):
            self._parts.append(new.copy())

    @property
    def ticks(self) -> NDArray[Any]:
        """All ticks so far."""
        self.look()
        self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    @property
    def last(self) -> Any:
        """The newest tick."""
        self.look()
        return self._parts[-1][-1]

    def when(self, what: str, true: Callable[[Any], object], after: Any = None) -> Any:
        """The first tick of which `true` holds: after the tick `after`, else from now on."""
        newest = int((self.last if after is None else after)["tick"])

        def find() -> Any:
            nonlocal newest
            assert self._run.process.poll() is None, self._run.output
            new = self.since(newest)
            newest = int(new[-1]["tick"]) if len(new) else newest
            return next((tick for tick in new if true(tick)), None)

        try:
            return until(what, find)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._run.output}\n{self.last}") from None

    def since(self, k: int) -> NDArray[Any]:
        """The ticks after tick `k`."""
        ticks = self.ticks
        return ticks[np.searchsorted(ticks["tick"], k, side="right") :]


def executes(tick: Any) -> bool:
    """Whether a row of a chunk was sent."""
    return int(tick["phase"]) == Phase.RUN and int(tick["hold"]) == Hold.NONE


def check_holds(ticks: NDArray[Any], *allowed: str) -> set[str]:
    """That they held for want of a chunk, as `allowed`, or not at all. Returns all their holds."""
    found = {Hold(number).name for number in np.unique(ticks["hold"])} - {"NONE"}
    others = [Hold[name] for name in found - STARVING - {*allowed}]
    words = {text(why) for why in ticks["why"][np.isin(ticks["hold"], others)]}
    assert not others, (others, words)
    return found
