"""A robot over DDS and cameras: what they cost the control loop."""

from __future__ import annotations

import statistics
from typing import Any

from proof import table

from sections.drawing import COLOURS, panels, save
from sections.words import ratio

AIM_US = 300  # of a tick over DDS, p50


def text(figures: dict[str, Any]) -> str:
    """What was measured of it, in one table."""
    rows: list[tuple[object, ...]] = []
    if "tick" in figures:
        rows += [_tick(figures["tick"], quantile) for quantile in ("p50", "p99")]
    rows += [_age(figures[key]) for key in ("age_20", "age_200") if key in figures]
    if "cameras" in figures:
        rows += _cameras(figures["cameras"])
    _draw(figures)
    head = ("What", "Ours", "Peer, by turns in the same run", "Ratio")
    return f"""## A real robot

The control loop against the fake robot, a process of its own that publishes 300 states a second
over DDS on loopback; its peer is the same tick at the same pace with the simulator's rings. And a
loop at 1 kHz beside three cameras' processes that play video files.

{table(head, rows)}

{_aim(figures)}- The age of a state is read off the sender's own stamp, from publication to the
  tick. Where control's rate divides the robot's, one phase is seen throughout a run.

![Pairs of a tick over DDS and over rings, and of wake errors with and without cameras]\
(benchmarks/real_robot.svg)"""


def _tick(tick: dict[str, Any], quantile: str) -> tuple[object, ...]:
    return (
        f"tick over DDS at 200 Hz, 24 joints, two topics in and two out, {quantile}",
        f"{tick[f'{quantile}_us']:.0f} µs",
        f"over rings {tick[f'peer_{quantile}_us']:.0f} µs",
        ratio(tick[f"{quantile}_ratios"]),
    )


def _age(age: dict[str, Any]) -> tuple[object, ...]:
    return (
        f"state's age at the tick, control at {age['hz']} Hz, {age['ticks']} ticks",
        f"p50 {age['p50_ms']:.1f} ms, p99 {age['p99_ms']:.1f} ms; tick p50 {age['tick_us']:.0f} µs",
        "",
        "",
    )


def _cameras(cameras: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            f"wake error at 1 kHz beside three cameras, {cameras['what']}, p99",
            f"{cameras['beside_us']:.0f} µs",
            f"without them {cameras['alone_us']:.0f} µs",
            ratio(cameras["ratios"]),
        ),
        (
            "a camera's process",
            f"{100 * cameras['share']:.1f} % of a core, {cameras['rate']:.1f} frames/s",
            "",
            "",
        ),
    ]


def _aim(figures: dict[str, Any]) -> str:
    if "tick" not in figures:
        return ""
    verdict = "reached" if figures["tick"]["p50_us"] <= AIM_US else "not reached"
    return f"- {AIM_US} µs was the aim for the tick's p50 over DDS: {verdict} in this run.\n"


def _draw(figures: dict[str, Any]) -> None:
    pairs = {
        "tick p50,\nDDS / rings": figures.get("tick", {}).get("p50_ratios"),
        "tick p99,\nDDS / rings": figures.get("tick", {}).get("p99_ratios"),
        "wake p99, with /\nwithout cameras": figures.get("cameras", {}).get("ratios"),
    }
    shown = {name: ratios for name, ratios in pairs.items() if ratios}
    figure, (panel,) = panels(1, height=1.0 + 0.5 * len(shown))
    for place, (name, ratios) in enumerate(shown.items()):
        panel.plot(ratios, [place] * len(ratios), "o", color=COLOURS[0], alpha=0.4, mec="none")
        panel.plot(statistics.median(ratios), place, "|", color="black", ms=16, label=name)
    panel.axvline(1.0, color="0.8", lw=1, zorder=0)
    panel.set_yticks(range(len(shown)), list(shown))
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.set_xlabel("ratio of each pair (dots), and their median (line)")
    save(figure, "real_robot")
