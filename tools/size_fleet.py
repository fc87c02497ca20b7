"""What a fleet needs, on paper: the tables of docs/fleet.md.

    python tools/size_fleet.py

Rates are means, sizes bytes, times seconds. Put your own figures into `ROBOT`, `SENT` and `GPUS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROBOTS = (1_000, 100_000)
U = 0.6  # share of its time that a GPU computes
U_MOST = 0.8  # while something is broken
NETWORK_S = 0.02  # there and back, with the request's bytes
# There and back: light in fibre, 200,000 km/s, on ways twice as long as the map's.
KM_PER_S = 50_000
HZ = (20, 50)


class Robot(NamedTuple):
    """How often one asks."""

    hz: float = 20.0
    horizon: int = 50  # H
    executed: int = 25  # s, which is max(s_min, d)

    @property
    def chunks_per_s(self) -> float:
        return self.hz / self.executed

    @property
    def left_s(self) -> float:
        """What it still has to execute when it asks."""
        return (self.horizon - self.executed) / self.hz


class Batch(NamedTuple):
    """One forward of `chunks` robots' chunks, and of what policy on what."""

    chunks: int
    took_s: float
    policy: str


ROBOT = Robot()
SENT = {"raw": 696_000, "JPEG": 67_000}  # a request of IGRIS_B's, its leftover included
REPLY = 5_000  # (50, 24) float32
PREFILL_S, DENOISE_S = 0.062, 0.035  # of π0.5's 97 ms, guided, on an RTX 4090
GPUS = (
    *(Batch(n, n * PREFILL_S + DENOISE_S, "π0.5, an RTX 4090") for n in (1, 2, 4, 8)),
    Batch(1, 1 / 42.1, "demonstration policy, a CPU core"),  # docs/benchmarks.md, 2026-11-22
    Batch(8, 8 / 158.4, "demonstration policy, a CPU core"),
)


def gpus(robots: int, robot: Robot, batch: Batch, u: float = U) -> int:
    """N · HZ/s · t(B) / (B · u), rounded up."""
    return math.ceil(robots * robot.chunks_per_s * batch.took_s / (batch.chunks * u))


def robots_of(count: int, robot: Robot, batch: Batch, u: float = U) -> float:
    """How many robots so many GPUs serve."""
    return count * batch.chunks * u / (batch.took_s * robot.chunks_per_s)


def longest_s(batch: Batch, network_s: float = NETWORK_S) -> float:
    """A chunk's way while no more wait than fit into one batch: the one that is being computed, and
    its own."""
    return network_s + 2 * batch.took_s


def busy(robots: int, robot: Robot, batch: Batch, count: int) -> float:
    """The share of their time that so many GPUs compute."""
    return robots * robot.chunks_per_s * batch.took_s / (batch.chunks * count)


def waits(u: float) -> float:
    """The mean wait in the queue of one GPU at u, in its t(B): M/D/1, for robots that ask
    independently of each other. inf: it grows without end."""
    return u / (2 * (1 - u)) if u < 1 else math.inf


def rows_of(network_s: float, robot: Robot, batch: Batch) -> int:
    """d of such a chunk."""
    return math.ceil(longest_s(batch, network_s) * robot.hz)


def gpu_table() -> str:
    """GPUs over the size of a batch."""
    rows: list[tuple[object, ...]] = [
        (
            *(batch.policy, batch.chunks, f"{1e3 * batch.took_s:.0f} ms"),
            f"{robots_of(1, ROBOT, batch):.1f}",
            *(f"**{gpus(robots, ROBOT, batch):,}**" for robots in ROBOTS),
            f"{1e3 * longest_s(batch):.0f} ms",
            rows_of(NETWORK_S, ROBOT, batch),
        )
        for batch in GPUS
    ]
    head = ("", "B", "t(B)", "Robots a GPU", *(f"GPUs, {n:,} robots" for n in ROBOTS))
    return table((*head, "Longest", "d"), rows)


def placement_table() -> str:
    """d over the way to the GPU, one chunk at a time."""
    rows = [
        (
            f"{km:,} km",
            f"{1e3 * (network_s := km / KM_PER_S):g} ms",
            *(rows_of(network_s, ROBOT._replace(hz=hz), GPUS[0]) for hz in HZ),
        )
        for km in (10, 1_000, 10_000)
    ]
    return table(("Away", "There and back", *(f"d at {hz} Hz" for hz in HZ)), rows)


def bandwidth_table() -> str:
    """What crosses the network."""
    rows = [
        (name, *(bits(n * ROBOT.chunks_per_s * 8 * size) for n in (1, *ROBOTS)))
        for name, size in (
            *((f"up, {images}", sent) for images, sent in SENT.items()),
            ("down", REPLY),
        )
    ]
    return table(("", "1 robot", *(f"{n:,} robots" for n in ROBOTS)), rows)


def bits(per_s: float) -> str:
    """A rate, in words."""
    size, unit = next((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if per_s >= s)
    return f"{float(f'{per_s / size:.2g}'):g} {unit}bit/s"


def failure_table(gpus_a_node: int = 8, nodes_a_rack: int = 4) -> str:
    """1,000 robots with one chunk at a time: what is left when something dies."""
    batch, robots = GPUS[0], ROBOTS[0]
    have = math.ceil(gpus(robots, ROBOT, batch) / gpus_a_node) * gpus_a_node
    domains = {
        "nothing": 0,
        "a GPU": 1,
        f"a node of {gpus_a_node}": gpus_a_node,
        f"a rack of {nodes_a_rack} nodes": gpus_a_node * nodes_a_rack,
        "half": have // 2,
    }
    rows = []
    for name, lost in domains.items():
        u = busy(robots, ROBOT, batch, have - lost)
        wait = f"{waits(u):.1f} t(B)" if u < 1 else "without end"
        served = f"{robots_of(lost, ROBOT, batch, u=busy(robots, ROBOT, batch, have)):.0f}"
        rows.append((name, lost, served, f"{u:.2f}", wait))
    return table(("What dies", "GPUs", "Robots that it served", "u then", "Mean wait then"), rows)


def with_spare(robots: int, robot: Robot, batch: Batch, largest: int) -> int:
    """GPUs so that u is at most U, and at most U_MOST while the `largest` domain is dead."""
    return max(gpus(robots, robot, batch), gpus(robots, robot, batch, U_MOST) + largest)


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    """In Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


Table = Callable[[], str]
TABLES: tuple[Table, ...] = (gpu_table, placement_table, bandwidth_table, failure_table)

if __name__ == "__main__":
    print("\n\n".join(make() for make in TABLES))
