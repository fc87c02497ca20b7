"""From a camera's stamp to the command that used what it saw, split by stage, in whole sessions.

Of its pictures a chunk is as old as the oldest, so that one is followed: captured, in its ring,
seen by inference, made into a chunk, published, executed. A chunk's stages add up to the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from budgets import judge
from numpy.typing import NDArray
from results import keep, report
from watching import Seen, watch

STAGES = (
    *("picture", "wait for inference", "observation", "encode", "denoise"),
    *("join and publish", "wait for a tick", "tick"),
)
POLICY = ("encode", "denoise")
OURS = ("observation", "join and publish", "tick")  # what is neither the policy nor waiting


@pytest.mark.parametrize("over", ["sim", "dds"])
def test_a_command_is_as_old_as_its_stages(benchmark, over: str, long: bool) -> None:  # type: ignore[no-untyped-def]
    if over == "dds" and not long:
        pytest.skip("is measured by make bench")
    seconds = 45.0 if long else 8.0
    dds = {"over_dds": True} if over == "dds" else {}
    seen = benchmark.pedantic(watch, (seconds,), dds, rounds=1)
    stages = {index: times for index in seen.chunks if (times := stages_ns(seen, index))}
    rows = np.array(list(stages.values()), np.int64)  # (n, stages)
    assert len(rows) >= 5
    assert (rows >= 0).all()
    named = dict(zip(STAGES, rows.T, strict=True))
    whole, policy, ours = rows.sum(axis=1), total(named, POLICY), total(named, OURS)
    ages = ages_ns(seen, stages)
    figures: dict[str, Any] = {
        "chunks": len(rows),
        "stages": {name: spread(times) for name, times in named.items()},
        "whole": spread(whole),
        "policy": spread(policy),
        "ours": spread(ours),
        "every command": spread(ages) | {"count": len(ages)},
    }
    keep("end_to_end", **{over: figures})
    of = ", ".join(f"{name} {f['p50']:.1f}" for name, f in figures["stages"].items())
    report(
        f"camera to command, {over}, {len(rows)} chunks",
        f"p50 {figures['whole']['p50']:.0f}, p99 {figures['whole']['p99']:.0f} ms; {of}; "
        f"the policy alone {figures['policy']['p50']:.1f}; under every command p50 "
        f"{figures['every command']['p50']:.0f} ms",
    )
    if over == "sim":
        judge("end_to_end.ours", list(ours / policy))


def stages_ns(seen: Seen, index: int) -> tuple[int, ...] | None:
    """How long each stage of a chunk took; None of one that was never used, or whose pictures are
    from before we looked."""
    chunk = seen.chunks[index]
    t_start, t_publish = int(chunk["t_start"]), int(chunk["t_publish"])
    frames = [newest(of, t_start) for of in seen.frames.values()]
    used = seen.ticks[(seen.ticks["chunk"] == index) & (seen.ticks["row"] >= 0)]
    if not len(used) or any(frame is None for frame in frames):
        return None
    t_capture, t_seen = min(frame for frame in frames if frame is not None)
    observe, encode, denoise = (int(chunk[f"{n}_ns"]) for n in ("observe", "encode", "denoise"))
    t_inferred = t_start + observe + encode + denoise
    t_wake, t_done = int(used["t_wake"][0]), int(used["t_done"][0])
    return (
        *(t_seen - t_capture, t_start - t_seen, observe, encode, denoise),
        # A tick that was awake already may find the chunk: it waited for nothing.
        *(t_publish - t_inferred, max(t_wake - t_publish, 0), t_done - max(t_wake, t_publish)),
    )


def newest(frames: NDArray[np.int64], t_ns: int) -> tuple[int, int] | None:
    """The newest frame that was in its ring at `t_ns`: when it was captured, and seen there."""
    count = int(np.searchsorted(frames[:, 1], t_ns, side="right"))
    return (int(frames[count - 1, 0]), int(frames[count - 1, 1])) if count else None


def ages_ns(seen: Seen, stages: dict[int, tuple[int, ...]]) -> NDArray[np.int64]:
    """How old the picture behind each command was, as it had been sent: of every executing tick."""
    ages = []
    for index, times in stages.items():
        used = seen.ticks[(seen.ticks["chunk"] == index) & (seen.ticks["row"] >= 0)]
        ages.append(used["t_done"] - (int(used["t_done"][0]) - sum(times)))
    return np.concatenate(ages)


def total(named: dict[str, Any], of: tuple[str, ...]) -> NDArray[np.int64]:
    """The time of some stages together, of each chunk."""
    summed: NDArray[np.int64] = np.sum([named[name] for name in of], axis=0)
    return summed


def spread(times_ns: NDArray[np.int64]) -> dict[str, float]:
    """p50, p99 and mean, ms."""
    p50, p99 = np.percentile(times_ns, [50, 99])
    return {"p50": p50 / 1e6, "p99": p99 / 1e6, "mean": float(times_ns.mean()) / 1e6}
