"""Where something can be put back into the control loop; see `variants`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from rt.control.ticker import Tick, Ticker


def nothing() -> None:
    """What a hook does where nothing was put back."""


@dataclass
class Hooks:
    """The loop calls `wait` for its next tick, and the others within each."""

    ticker: Ticker
    others: tuple[int, ...]  # the cores beside control's
    wait: Callable[[], Tick | None]
    before: Callable[[], object] = nothing
    after: Callable[[], object] = nothing


Variant = Callable[[Hooks], AbstractContextManager[None]]
