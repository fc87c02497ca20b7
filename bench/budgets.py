"""What each operation may cost, as a multiple of a peer's cost in the same run.

Ours and the peer's are measured by turns, so that a busy machine slows both alike; what is judged
is the median of the pairs' ratios. A budget is broken when it is exceeded by more than noise: when
it lies below the 95 % confidence interval of that median.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from results import keep


@dataclass(frozen=True)
class Budget:
    """`what` may cost `most` times the `peer`."""

    what: str
    peer: str
    most: float


BUDGETS: dict[str, Budget] = {
    # transport
    "ring.chunk": Budget("ring: fill, commit and read a 4.8 kB chunk", "two np.copyto of it", 2.5),
    "ring.frames": Budget("ring: 691 kB of frames", "two np.copyto of them", 1.15),
    "ring.iceoryx2": Budget("ring: a chunk written and read", "iceoryx2, by address", 0.6),
    "ring.pipe": Budget("ring: a chunk written and read", "Pipe, bytes", 0.5),
    "ring.readers.p99": Budget("ring: a read's p99 beside two more readers", "alone", 1.25),
    # control
    "tick.p50": Budget("tick: 24 joints, back to back, p50", "Pipe, its record there", 6.5),
    "tick.p99": Budget("tick: 24 joints, back to back, p99", "Pipe's p99", 10.0),
    "tick.dds.p50": Budget("tick: over DDS at 200 Hz, p50", "over the simulator's rings", 3.25),
    "tick.dds.p99": Budget("tick: over DDS at 200 Hz, p99", "over the simulator's rings", 6.0),
    "wake.p99": Budget("wake error at 1 kHz under load, p99", "cyclictest", 1.25),
    "wake.spin": Budget("the same with the last 150 µs spun, p50", "without", 0.05),
    "wake.cameras.p99": Budget("wake error beside three cameras, p99", "without them", 1.25),
    "recording.wake.p99": Budget("wake error beside a recorder, p99", "without it", 1.25),
    "recording.work.p99": Budget("a tick's work beside a recorder, p99", "without it", 1.1),
    "end_to_end.ours": Budget("observe, join, publish and send a chunk", "the demo policy", 0.15),
    # policy
    "denoise.demo.guided": Budget("denoising, the demo policy, guided", "unguided", 2.2),
    "denoise.demo.identity": Budget("the same, identity Jacobian", "unguided", 1.1),
    "denoise.transformer.guided": Budget("denoising, a transformer, guided", "unguided", 2.2),
    "denoise.transformer.identity": Budget("the same, identity Jacobian", "unguided", 1.1),
    "chunk.pi05": Budget("a chunk of π0.5's shapes on CUDA, guided, n = 5", "unguided", 1.28),
    "denoise.pi05": Budget("denoising π0.5's shapes on CUDA, guided", "unguided", 2.2),
}


def judge(name: str, ratios: Sequence[float]) -> None:
    """Keep the figures of `BUDGETS[name]` for the page; fails if it is broken."""
    budget, (low, high) = BUDGETS[name], interval(ratios)
    median = statistics.median(ratios)
    keep("budgets", **{name: {"median": median, "low": low, "high": high, "pairs": len(ratios)}})
    assert low <= budget.most, (
        f"{budget.what}: {median:.2f} times {budget.peer} ({low:.2f} to {high:.2f}, "
        f"{len(ratios)} pairs), more than the budget of {budget.most:.2f}"
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, from the order statistics alone: how many of n
    values lie below the median is binomial(n, 1/2). Of fewer than six values it is their range."""
    ordered, n = sorted(values), len(values)
    outside = [2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n for k in range((n + 1) // 2)]
    k = max((k for k, p in enumerate(outside) if p <= 0.05), default=0)
    return ordered[k], ordered[n - 1 - k]
