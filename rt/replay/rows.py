"""The rows that a recording's robot executed, episode by episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.records import UNSEEN, Hold, Phase, named


def episodes(ticks: NDArray[Any], ticks_per_row: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Each episode's number, and a tick record of each of its executed rows; without those that
    executed none. In two parts where the robot may have been moved meanwhile: where it gave no
    state, had a fault or did not follow. ticks: (n,), oldest first."""
    executed, moved = _executed(ticks), np.cumsum(np.isin(ticks["hold"], UNSEEN))
    for number in np.unique(ticks["episode"][executed]):
        of = executed & (ticks["episode"] == number)
        for part in np.unique(moved[of]):
            yield int(number), _rows(ticks[of & (moved == part)], ticks_per_row)


def left_out(ticks: NDArray[Any]) -> dict[str, int]:
    """How many ticks executed no row, by what they did; the most frequent first."""
    found = Counter(_doing(tick) for tick in ticks[~_executed(ticks)])
    found["skipped or lost"] = int(np.maximum(np.diff(ticks["tick"]) - 1, 0).sum())
    return dict((+found).most_common())


def _executed(ticks: NDArray[Any]) -> NDArray[np.bool_]:
    executed: NDArray[np.bool_] = (ticks["row"] >= 0) & (ticks["dry_run"] == 0)
    return executed


def _rows(ticks: NDArray[Any], ticks_per_row: int) -> NDArray[Any]:
    """Of executed ticks the first of each row. They are evenly spaced from the first one, and anew
    from the first one behind a gap; where that tick was skipped, the row's next stands for it."""
    number = ticks["tick"]
    run = np.cumsum(np.diff(number, prepend=number[0]) > ticks_per_row)
    begins = number[np.searchsorted(run, run)]
    row = (number - begins) // ticks_per_row
    first: NDArray[Any] = ticks[np.unique([run, row], axis=1, return_index=True)[1]]
    return first


def _doing(tick: Any) -> str:
    if tick["hold"] != Hold.NONE:
        return f"hold {named(Hold, tick['hold']).lower()}"
    return "dry run" if tick["phase"] == Phase.RUN else named(Phase, tick["phase"]).lower()
