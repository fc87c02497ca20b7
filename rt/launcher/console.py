"""What `rt.launch` tells, in lines: the real-time report, progress, the status, the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rt.cli import bar
from rt.control.realtime import Grant
from rt.records import Hold, Phase, text
from rt.snapshot import Snapshots, rows_left
from rt.statistics import TickStatistics


def realtime_report(encoded: bytes) -> list[str]:
    """The grants as a table; what was not granted names its remedy."""
    grants = msgspec.json.decode(encoded, type=list[Grant])
    lines = [f"{'real time':<20}{'asked':<16}granted"]
    for g in grants:
        lines.append(f"  {g.name:<18}{g.asked:<16}{g.granted}" + ("" if g.ok else "   <-- MISSING"))
    lines += [f"WARNING: {g.name} was not granted: {g.remedy}" for g in grants if not g.ok]
    return lines


def progress(name: str, state: str, share: float, detail: str) -> str:
    """A bar while the policy loads and warms up."""
    return f"{name} {bar(share)} {state}" + (f": {detail}" if detail else "")


def status_line(statistics: TickStatistics, chunk: Any, dropped: int, why: str) -> str:
    """Tick rate, p99 wake error, overruns, holds, chunk id, delay d, leftover.

    why: what inference waits for, or what was wrong with its last chunk; told while control holds
    and has nothing to say of that itself.
    """
    record = statistics.last
    if record is None:
        return "waiting for the first tick"
    phase, hold = Phase(int(record["phase"])), Hold(int(record["hold"]))
    what = phase.name.lower() if not hold else f"hold {hold.name.lower()}"
    why = text(record["why"]) or why
    if why and (hold or text(record["why"])):
        what += f": {why}"
    if record["dry_run"]:
        what = f"dry run, {what}"
    parts = [
        f"tick {int(record['tick'])}",
        f"{statistics.rate_hz:.1f} Hz",
        f"wake p99 {statistics.wake_error.percentile_us(99):.0f} us",
        f"overruns {int(record['overruns'])}",
        f"holds {int(record['holds'])}",
    ]
    row = float(record["row"])
    if chunk is not None:
        left = rows_left(row, len(chunk["actions"]))
        parts += [f"chunk {int(record['chunk'])}", f"d {int(chunk['d_planned'])}", f"left {left}"]
    if dropped:
        parts.append(f"dropped {dropped}")
    parts += [f"episode {int(record['episode'])}", f"ok {int(record['successes'])}", what]
    return " | ".join(parts)


def summary(
    statistics: TickStatistics, snapshots: Snapshots, restarts: dict[str, int]
) -> Sequence[str]:
    """What a run came to."""
    record = statistics.last
    if record is None:
        return ["summary: no tick was run"]
    inference = snapshots.take()["inference"]
    counted = [i["d_counted"] for i in inference["last"] if i["d_counted"] is not None]
    lines = ["summary"]
    for label, d in (("wake error", statistics.wake_error), ("tick work", statistics.work)):
        s = d.summary()
        lines.append(
            f"  {label:<12} p50 {s['p50']:.1f}   p99 {s['p99']:.1f}   p99.9 {s['p99.9']:.1f}   "
            f"max {s['max']:.1f} us"
        )
    lines += [
        f"  ticks        {int(record['tick']) + 1} due, {statistics.work.count} run, "
        f"{int(record['overruns'])} overruns, {int(record['planning'])} planning, "
        f"{int(record['holds'])} holds",
        f"  chunks       {inference['published']} published, {inference['late']} late, "
        f"{inference['dropped']} dropped, {int(record['expired_chunks'])} expired; "
        f"last counted d {counted or '-'}",
        f"  episodes     {int(record['episodes'])} ended, {int(record['successes'])} successful"
        + (f", number {int(record['episode'])} unfinished" if _unfinished(record) else ""),
    ]
    if prompt := text(record["prompt"]):
        lines.append(f"  prompt       {prompt}")
    lines += [f"  restarted    {name} {n}" for name, n in restarts.items() if n]
    return lines


def _unfinished(record: Any) -> bool:
    return int(record["episode"]) > int(record["episodes"])
