"""A robot over DDS and cameras: what they cost the control loop."""

from __future__ import annotations

from typing import Any

from results import table

from sections.drawing import draw_pairs
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
    draw_pairs("real_robot", _pairs(figures), "ratio")
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


def _pairs(figures: dict[str, Any]) -> dict[str, Any]:
    """What was measured in pairs, for the plot."""
    tick, cameras = figures.get("tick", {}), figures.get("cameras", {})
    pairs = {
        "tick p50,\nDDS / rings": tick.get("p50_ratios"),
        "tick p99,\nDDS / rings": tick.get("p99_ratios"),
        "wake p99, with /\nwithout cameras": cameras.get("ratios"),
    }
    return {name: {"": ratios} for name, ratios in pairs.items() if ratios}
