"""What a replay would have changed, in degrees."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt.config import Config
from rt.delays import delays
from rt.records import Hold, named


class Spread(NamedTuple):
    """Of some numbers; NaN of none."""

    mean: float
    p99: float
    largest: float

    def __str__(self) -> str:
        return "".join(f"{value:9.3f}" for value in self)


class GroupDifference(NamedTuple):
    """One joint group's, degrees."""

    name: str
    actions: Spread  # |replayed - recorded command| of each joint, in ticks that both executed
    seams_recorded: Spread  # see `seam_jumps`
    seams_replayed: Spread


def spread(values: NDArray[Any]) -> Spread:
    """values: any shape."""
    if not values.size:
        return Spread(np.nan, np.nan, np.nan)
    return Spread(float(values.mean()), float(np.percentile(values, 99)), float(values.max()))


def executed_in_both(
    recorded: NDArray[Any], replayed: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The tick records (n,) of each, of the ticks that executed a row in both."""
    one, other = recorded[recorded["row"] >= 0], replayed[replayed["row"] >= 0]
    _, i, j = np.intersect1d(one["tick"], other["tick"], return_indices=True)
    return one[i], other[j]


def seam_jumps(ticks: NDArray[Any], joints: slice) -> NDArray[np.float64]:
    """(n,) degrees: at each swap within an episode, the length of the joints' step from the command
    before to the new chunk's first (as `rt.compare.metrics.largest_jump`, but of positions: the
    motion of that tick is in it). Beside a record that was lost there is none."""
    before, after = ticks[:-1], ticks[1:]
    skipped = (after["overruns"] + after["planning"]) - (before["overruns"] + before["planning"])
    at = after["tick"] == after["chunk_first_used_tick"]
    at &= after["episode"] == before["episode"]
    at &= after["tick"] - before["tick"] == 1 + skipped
    steps = after["command"][at][:, joints] - before["command"][at][:, joints]
    jumps: NDArray[np.float64] = np.rad2deg(np.linalg.norm(steps, axis=1))
    return jumps[np.isfinite(jumps)]


def differences(
    config: Config, recorded: NDArray[Any], replayed: NDArray[Any]
) -> list[GroupDifference]:
    """Of each joint group. recorded, replayed: tick records, oldest first."""
    one, other = executed_in_both(recorded, replayed)
    apart = np.abs(np.rad2deg(other["command"] - one["command"]))
    groups = zip(config.robot.joint_groups, config.joint_slices.values(), strict=True)
    return [
        GroupDifference(
            group.name,
            spread(apart[:, joints]),
            spread(seam_jumps(recorded, joints)),
            spread(seam_jumps(replayed, joints)),
        )
        for group, joints in groups
    ]


def holds(ticks: NDArray[Any]) -> dict[str, int]:
    """By reason, the ticks that held; the most frequent first."""
    counted = Counter(ticks["hold"][ticks["hold"] != Hold.NONE].tolist())
    return {named(Hold, hold).lower(): count for hold, count in counted.most_common()}


def told(counts: dict[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def table(
    config: Config,
    recorded: tuple[NDArray[Any], dict[int, Any]],
    replayed: tuple[NDArray[Any], dict[int, Any]],
) -> str:
    """All of it for a reader. recorded, replayed: ticks and chunks."""
    both = len(executed_in_both(recorded[0], replayed[0])[0])
    figures = f"{'mean':>9}{'p99':>9}{'max':>9}"
    columns = ("actions differ", "seams, recorded", "seams, replayed")
    lines = [
        f"degrees, over {both} ticks that executed a row in both; a seam is a step to a new chunk",
        f"{'':<16}" + "".join(f"{column:>27}" for column in columns),
        f"{'joint group':<16}" + 3 * figures,
    ]
    for group in differences(config, recorded[0], replayed[0]):
        lines.append(f"{group.name:<16}{group.actions}{group.seams_recorded}{group.seams_replayed}")
    for name, (ticks, chunks) in (("recorded", recorded), ("replayed", replayed)):
        late = sum(delay.late for delay in delays(config, ticks, chunks))
        lines.append(
            f"{name}: {len(ticks)} ticks, {len(chunks)} chunks, {late} late, holds: "
            f"{told(holds(ticks))}"
        )
    return "\n".join(lines)
