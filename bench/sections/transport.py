"""What it costs to hand an array to another process, and how long it is under way."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import COLOURS, panels, save

OURS = "rt.shm.Ring"
SIZES = {"chunk": "A chunk, 4.8 kB", "frames": "Frames, 691 kB"}
AIMS = {
    "iceoryx2, payload()": 4,
    "iceoryx2, by address": 4,
    "Pipe, objects": 3,
    "Pipe, bytes": 3,
}  # times ours, for a chunk


def text(figures: dict[str, Any]) -> str:
    """A table for each size, what was aimed at, and what other readers do to a read."""
    plot(figures)
    tables = "\n\n".join(f"{name}:\n\n{rows(figures, s)}" for s, name in SIZES.items())
    costs = figures["chunk_cost_us"]
    aims = "\n".join(
        f"  - {peer}: {costs[peer] / costs[OURS]:.1f}× (aimed at: {aim}×"
        f"{', not reached' * (costs[peer] < aim * costs[OURS])})"
        for peer, aim in AIMS.items()
    )
    reads = figures["read_p99_us"]
    return f"""## Transport

Cost is the CPU time of sender and receiver together for one message, copied in and copied out, in
one process, so that nobody waits; all threads count. One way is from before the send to after the
copy out, in another process on another core, a message every millisecond or slower: a receiver
polls the ring, iceoryx2 and the locked memory, and blocks in the others. Medians, by turns.

{tables}

![Cost and latency of each](benchmarks/transport.svg)

- What a chunk costs the others, as a multiple of ours (iceoryx2's examples read through
  `payload()`, and most who use a Pipe send objects; the other two are the cheaper way):
{aims}
{sooner(figures)}
- Memory under a lock costs little while nobody else wants the lock. How control fares beside
  others that do: [what a lock would cost](#what-a-collector-a-log-a-thread-or-a-lock-would-cost).
- Of large messages in shared memory the copies are nearly all. The ring goes round
  {figures["slots"]} slots, as a camera's does; iceoryx2 with one reader uses the same two or three
  samples again and the locked memory one place, which the cache holds.
- ZeroMQ is PUB and SUB without CONFLATE, which would keep the newest message alone, as a ring does:
  with it a message now and then stays unseen until the next one is sent, in libzmq 4.3.5. A Pipe's
  buffer is widened to 1 MiB; a Queue pickles in a thread of its own. Ray is measured where it is
  installed (`pip install ray`), one way alone: its object store is paid for in other processes.
- A chunk written after pauses of 1 ms and read after pauses of 0.5 ms, with SCHED_FIFO where it
  is granted: p99 {reads["1"]:.1f} µs alone, {reads["2"]:.1f} µs beside a second reader and
  {reads["3"]:.1f} µs beside a third."""


def sooner(figures: dict[str, Any]) -> str:
    """Whose tail is shorter than ours, one way."""
    lines = []
    for size, name in SIZES.items():
        ways = figures[f"{size}_way_us"]
        ours = ways[OURS][1]
        better = sorted((p99, peer) for peer, (_, p99) in ways.items() if p99 < ours)
        told = "; ".join(f"{peer}: {p99:.0f}" for p99, peer in better) or "none"
        lines.append(f"  - {name} (ours: {ours:.0f} µs): {told}")
    return "- One way, these have a lower p99 than ours, in µs:\n" + "\n".join(lines)


def rows(figures: dict[str, Any], size: str) -> str:
    """The table of one size, the cheapest first."""
    costs, ways = figures[f"{size}_cost_us"], figures[f"{size}_way_us"]
    head = ("Transport", "Cost µs", "Times ours", "One way p50 µs", "p99 µs", "p50 times ours")
    lines: list[tuple[object, ...]] = []
    for peer, (p50, p99) in sorted(ways.items(), key=lambda item: costs.get(item[0], 1e9)):
        cost = costs.get(peer)
        lines.append(
            (
                f"**{peer}**" if peer == OURS else peer,
                f"{cost:.2f}" if cost else "–",
                f"{cost / costs[OURS]:.1f}×" if cost else "–",
                f"{p50:.0f}",
                f"{p99:.0f}",
                f"{p50 / ways[OURS][0]:.1f}×",
            )
        )
    return table(head, lines)


def plot(figures: dict[str, Any]) -> None:
    """Bars: cost, and one way with a line to its p99."""
    figure, axes = panels(4, width=10, height=2.6)
    for (cost, way), size in zip((axes[:2], axes[2:]), SIZES, strict=True):
        costs, ways = figures[f"{size}_cost_us"], figures[f"{size}_way_us"]
        peers = sorted(costs, key=costs.__getitem__, reverse=True)
        p50, p99 = zip(*(ways[peer] for peer in peers), strict=True)
        colours = [COLOURS[1] if peer == OURS else COLOURS[0] for peer in peers]
        cost.barh(peers, [costs[peer] for peer in peers], color=colours)
        cost.set(xscale="log", xlim=(min(costs.values()) / 3, None))
        cost.set_xlabel(f"cost of {size}, µs")
        way.barh(peers, p50, color=colours)
        way.hlines(peers, p50, p99, color="#555555", lw=1)
        way.set(xscale="log", xlim=(min(p50) / 3, None), yticklabels=[])
        way.set_xlabel("one way, a line to p99, µs")
    for panel in axes:
        panel.xaxis.set_minor_formatter("")
    save(figure, "transport")
