"""What is in a recording, in a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.cli import printable
from rt.delays import delays
from rt.record.reading import Recording
from rt.records import Hold, Phase, named, text
from rt.replay.differences import holds, told


def summary(recording: Recording) -> str:
    """The page. Reads the whole file once for each camera."""
    meta, ticks = recording.meta, recording.ticks
    commit = meta.get("git") or "unknown"
    lost = {ring: count for ring, count in recording.lost.items() if count}
    rows = [
        ("recording", str(recording.path)),
        ("session", f"{meta.get('session', '')}, started {meta.get('started') or 'unknown'}"),
        ("robot", f"{meta.get('robot', '')}, on {meta.get('machine') or 'unknown'}"),
        ("algorithm", meta.get("algorithm", "")),
        ("policy", recording.config.run.policy_yaml_path),
        ("commit", f"{commit}, version {meta.get('version', '')}"),
        *_of_ticks(ticks),
        *_of_chunks(recording),
        *_of_cameras(recording),
        ("events", told(dict(Counter(e.kind for e in recording.events).most_common()))),
        ("lost records", told(lost) if recording.lost else "not told"),
        ("ended", _end(recording)),
    ]
    return "\n".join(f"{name:<14}{printable(words)}" for name, words in rows)


def _of_ticks(ticks: NDArray[Any]) -> Iterator[tuple[str, str]]:
    if not len(ticks):
        yield "ticks", "none"
        return
    first, last = ticks[0], ticks[-1]
    yield "duration", f"{(int(last['t_wake']) - int(first['t_wake'])) / 1e9:.1f} s"
    executed = int(np.count_nonzero(ticks["row"] >= 0))
    numbers = f"{first['tick']} to {last['tick']}"
    yield "ticks", f"{len(ticks)}, of {numbers}; {executed} executed a row"
    yield "overruns", str(int(last["overruns"]) - int(first["overruns"]))
    yield "holds", told(holds(ticks))


def _of_chunks(recording: Recording) -> Iterator[tuple[str, str]]:
    chunks = recording.chunks
    if not chunks or not len(recording.ticks):
        yield "chunks", str(len(chunks))
        return
    cold = sum(int(chunk["cold"]) for chunk in chunks.values())
    took = [(int(c["t_publish"]) - int(c["t_start"])) / 1e6 for c in chunks.values()]
    yield "chunks", f"{len(chunks)}, of them {cold} from a cold start"
    p50, p99, most = (float(x) for x in np.percentile(took, [50, 99, 100]))
    yield "inference", f"p50 {p50:.0f}, p99 {p99:.0f}, max {most:.0f} ms"
    found = delays(recording.config, recording.ticks, chunks)
    counted = Counter(delay.counted for delay in found)
    in_rows = {f"{rows} rows:": counted[rows] for rows in sorted(counted)}
    yield "delays", told(in_rows)
    yield "late", f"{sum(delay.late for delay in found)} of {len(found)} later than planned"


def _of_cameras(recording: Recording) -> Iterator[tuple[str, str]]:
    names = recording.config.params.camera_names
    if not names:
        yield "cameras", "none"
    for name in names:
        times = [t for t, _ in recording.frames(name)]
        span_s = (times[-1] - times[0]) / 1e9 if times else 0.0
        rate = f", {(len(times) - 1) / span_s:.1f} Hz" if span_s > 0 else ""
        yield f"camera {name}", f"{len(times)} frames{rate}"


def _end(recording: Recording) -> str:
    """How it ended, as far as its last tick tells."""
    if not len(recording.ticks):
        return "before the first tick"
    last = recording.ticks[-1]
    hold, why = int(last["hold"]), text(last["why"])
    if int(last["phase"]) == Phase.STOPPED:
        return "in order: the session was stopped"
    doing = f"in phase {named(Phase, last['phase']).lower()}"
    if hold != Hold.NONE:
        doing += f", in hold {named(Hold, hold).lower()}" + (f" ({why})" if why else "")
    cut = (
        "the file was cut" if recording.problem else "the recorder was ended, or control was killed"
    )
    return f"{doing}: {cut} there"
