"""What a fleet answers, and how it grows, beside one server."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import COLOURS, panels, save

SERVERS = ("rt.serve, one at a time", "rt.serve", "fleet, 1", "fleet, 2", "fleet, 4")
POLICIES = {"stand-in": 32, "demo": 8, "nothing": 8}  # and the robots that ask at once


def text(figures: dict[str, Any]) -> str:
    """Robots at their own pace, robots that ask at once, and what it costs."""
    runs = list(figures.values())
    _draw(runs)
    paced = [run for server in SERVERS for run in _paced(runs, server)]
    return f"""## A fleet

Robots with IGRIS_B's observation, raw, and a leftover, each a `RemotePolicy`, ask a fleet on Ray
Serve of one front and one, two or four replicas; `python -m rt.serve` alone; and that one chunk at
a time (`--max_batch 1`). One run, and all of it on this machine's cores: head, front, robots.

At a robot's pace: a chunk every 25 rows of 50 ms, an answer within 1 s or none. The policy is a
**stand-in that sleeps** as long as π0.5 takes on an RTX 4090, guided: 97 ms for one chunk (arXiv
2506.07339), 35 + 62 B ms for a batch of B, which is a guess on the careful side. One of them can
give 10 chunks/s one at a time, which is 13 robots, and 15 in batches of 8.

{table(HEAD, [_row(run) for run in paced])}

More robots than a GPU has time for are not served later, they are not served: what it computes is
too late for those who asked for it.

Robots that ask again at once, so that what they get is what there is:

{table(AT_ONCE, [_at_once(runs, server) for server in SERVERS])}

The stand-ins sleep beside each other as GPUs would compute, so that chunks/s grow with them. The
demonstration policy computes: all replicas share the same cores, and more of them only make
batches smaller. *Nothing* is a policy that takes no time: all the rest, such as images of 0.7 MB
through front and shared memory. *A chunk's cost* is its: of all the server's processes, of a core.

![How long a robot waits, and how chunks/s grow](benchmarks/fleet.svg)"""


HEAD = ("Server", "Robots", "Chunks/s", "p50", "p99", "No chunk in time", "Batches: mean, most")
AT_ONCE = (
    *("Server", "Stand-in, 32 robots", "Batches", "Demonstration policy, 8", "Nothing, 8"),
    "A chunk's cost",
)


def _paced(runs: list[dict[str, Any]], server: str) -> list[dict[str, Any]]:
    return [run for run in runs if run["server"] == server and not run["at_once"]]


def _row(run: dict[str, Any]) -> tuple[object, ...]:
    times = (f"{run[p]:.0f} ms" if run["chunks"] else "" for p in ("p50_ms", "p99_ms"))
    late = 1 - run["outcomes"].get("OK", 0) / run["asked"]
    return (
        run["server"],
        run["robots"],
        f"{run['per_s']:.1f}",
        *times,
        f"{late:.0%}",
        _batches(run),
    )


def _batches(run: dict[str, Any]) -> str:
    """Of the batch that a chunk was in."""
    sizes = {int(size): count for size, count in run["batches"].items()}
    if not sizes:
        return ""
    mean = sum(size * count for size, count in sizes.items()) / sum(sizes.values())
    return f"{mean:.1f}, {max(sizes)}"


def _at_once(runs: list[dict[str, Any]], server: str) -> tuple[object, ...]:
    of = {run["policy"]: run for run in runs if run["server"] == server and run["at_once"]}
    stand_in, demo, nothing = (of[policy] for policy in POLICIES)
    return (
        *(server, f"**{stand_in['per_s']:.0f} chunks/s**", _batches(stand_in)),
        *(f"{demo['per_s']:.0f} chunks/s", f"{nothing['per_s']:.0f} chunks/s"),
        f"{nothing['cpu_ms']:.1f} ms",
    )


def _draw(runs: list[dict[str, Any]]) -> None:
    figure, (waits, grows) = panels(2, height=3.0)
    for server, colour in zip(SERVERS, COLOURS, strict=False):
        own = sorted(
            (run for run in _paced(runs, server) if run["chunks"]), key=lambda run: run["robots"]
        )
        robots = [run["robots"] for run in own]
        waits.plot(robots, [r["p50_ms"] for r in own], "o-", color=colour, ms=4, label=server)
        waits.plot(robots, [r["p99_ms"] for r in own], "o:", color=colour, ms=3)
    waits.set_xscale("log", base=2)
    waits.xaxis.set_major_formatter("{x:.0f}")
    waits.set_ylim(bottom=0)
    waits.set_xlabel("robots, at their pace")
    waits.set_ylabel("ms to a chunk that came: p50, dotted p99")
    waits.legend(frameon=False, fontsize=8)
    replicas = [1, 2, 4]
    for policy, colour in zip(POLICIES, COLOURS, strict=False):
        at_once = {r["server"]: r["per_s"] for r in runs if r["policy"] == policy and r["at_once"]}
        own = [at_once[f"fleet, {count}"] for count in replicas]
        grows.plot(replicas, own, "o-", color=colour, ms=4, label=policy)
        grows.plot(replicas, [own[0] * n for n in replicas], ":", color=colour, lw=1)
    grows.set_xticks(replicas)
    grows.set_ylim(bottom=0)
    grows.set_xlabel("replicas")
    grows.set_ylabel("chunks/s at once; dotted: times replicas")
    grows.legend(frameon=False)
    save(figure, "fleet")
