"""What a bad network does to a robot whose policy is on another machine, mode by mode."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import COLOURS, panels, save

MEANING = {  # as bench/test_network.py has them
    "none": "as fast as this machine",
    "20 ms": "20 to 30 ms each way",
    "100 ms": "100 to 130 ms each way",
    "300 ms": "300 to 360 ms each way",
    "stalls": "20 ms, and each second a loss that TCP waits 200 ms for, each way",
    "10 Mbit/s, raw": "20 ms, images as they are",
    "10 Mbit/s, JPEG": "20 ms, images as JPEG",
    "partition": "20 ms, and nothing passes for 3 of every 8 s",
    "resets": "20 ms, and every connection is broken every 2 s",
    "server killed": "20 ms, and the server is killed in a request every 12 s, and started again",
}
MODES = ("rtc", "naive", "sequential")
HEAD = (
    *("Network", "Mode", "Success (95 %)", "Seconds", "Standing", "d planned", "d counted"),
    *("Late", "Held", "Largest step"),
)


def text(figures: dict[str, Any]) -> str:
    """Every condition and mode in a table, and what of a chunk was the network."""
    runs = [run for name in MEANING for mode in MODES if (run := figures.get(f"{name}; {mode}"))]
    _draw(runs)
    conditions = "\n".join(f"- *{name}*: {meaning}." for name, meaning in MEANING.items())
    return f"""## A policy across a bad network

The simulated IGRIS_B and the demonstration policy at 20 Hz, H = 50 and s = 25 rows, served by
`rt.serve` behind `rt.testing.network`, whose seed was the same for all; {_episodes(runs)} episodes
each, of the same scenes. What each network does:

{conditions}

{table(HEAD, [_row(run) for run in runs])}

*Seconds* to an episode's end, and of it *standing*: medians. d is rows of 50 ms: the median, and
the most. *Late*: chunks that came later than planned. *Held*: ticks of an episode without a row to
execute; while sequential plans there are no ticks at all. *Largest step*: of any command from the
one before, as a share of the slew limit. Eight episodes tell whether a robot gets there at all, and
how long it stands; what one mode is worth beside another is told by [1024](compare.md).

![Success and time over the network](benchmarks/network.svg)

What a chunk waits for, and what came of asking for one, of `rtc`:

{_network(runs)}"""


def _episodes(runs: list[dict[str, Any]]) -> str:
    return " or ".join(str(count) for count in sorted({run["episodes"] for run in runs}))


def _row(run: dict[str, Any]) -> tuple[object, ...]:
    success, held = run["success"], sum(run["holds"].values())
    share = f"{success['mean']:.0%} ({success['low']:.0%}–{success['high']:.0%})"
    return (
        *(run["condition"], run["mode"], f"**{share}**"),
        *(f"{run['seconds']:.2f} s", f"{run['standing_s']:.2f} s"),
        *(_rows(run["d_planned"]), _rows(run["d_counted"])),
        f"{run['late']} of {run['delayed']}" if run["delayed"] else "",
        *(f"{held / run['ticks']:.1%}", f"{run['step_of_limit']:.0%}"),
    )


def _rows(spread: list[float] | None) -> str:
    return f"{spread[0]:.0f}, {spread[1]:.0f}" if spread else ""


def _network(runs: list[dict[str, Any]]) -> str:
    rows = [
        (
            run["condition"],
            f"{run['request_kb']:.0f} kB",
            f"{run['network_ms'][0]:.0f}, {run['network_ms'][1]:.0f} ms",
            f"{run['network_share']:.0%}",
            ", ".join(f"{count} {name}" for name, count in run["outcomes"].items() if count),
        )
        for run in runs
        if run["mode"] == "rtc"
    ]
    head = ("Network", "A request", "Network: p50, max", "Of a chunk's time", "Outcomes")
    return table(head, rows)


def _draw(runs: list[dict[str, Any]]) -> None:
    names = [name for name in MEANING if any(run["condition"] == name for run in runs)]
    figure, (left, right) = panels(2, height=1.2 + 0.4 * len(names))
    for place, (mode, colour) in enumerate(zip(MODES, COLOURS, strict=False)):
        own = [run for run in runs if run["mode"] == mode]
        y = [names.index(run["condition"]) + 0.2 * (place - 1) for run in own]
        success = [run["success"] for run in own]
        means = [100 * s["mean"] for s in success]
        bars = [[100 * (s["mean"] - s["low"]) for s in success]]
        bars.append([100 * (s["high"] - s["mean"]) for s in success])
        left.errorbar(means, y, xerr=bars, fmt="o", color=colour, ms=4, lw=1, label=mode)
        seconds, standing = ([run[key] for run in own] for key in ("seconds", "standing_s"))
        right.barh(y, seconds, 0.18, color=colour, alpha=0.4)
        right.barh(y, standing, 0.18, color=colour)
    for panel in (left, right):
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_xlim(left=0)
    left.set_xlabel("success, %, with its 95 % interval")
    right.set_xlabel("seconds to an episode's end; full: standing")
    figure.legend(loc="outside upper center", ncols=len(MODES), frameon=False)
    save(figure, "network")
