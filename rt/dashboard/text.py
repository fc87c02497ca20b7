"""A snapshot as text: all of it, once, for a reader."""

from __future__ import annotations

from typing import Any

from rt.cli import printable
from rt.records import PARTS


def render(s: dict[str, Any]) -> str:
    """The snapshot for a reader."""
    stats, chunk, inference = s["tick_stats"], s["chunk"], s["inference"]
    params = "".join(f", {name} {value}" for name, value in s["algorithm_params"].items())
    lines = [
        f"session {s['session']}   robot {s['robot']}   algorithm {s['algorithm']}{params}   "
        f"io {s['io']}" + ("   DRY RUN: nothing is sent" if s["dry_run"] else ""),
        "",
        f"{'process':<18}{'pid':>8}  {'state':<12}{'heartbeat':>11}{'cpu':>8}  scheduler",
    ]
    for p in s["processes"]:
        age = "-" if p["heartbeat_age_ms"] is None else f"{p['heartbeat_age_ms']:.0f} ms"
        cpus = ",".join(map(str, p["cpus"]))
        share = "-" if p["cpu_percent"] is None else f"{p['cpu_percent']:.1f} %"
        lines.append(
            f"{p['name']:<18}{p['pid']:>8}  {p['state']:<12}{age:>11}{share:>8}  "
            f"{p['scheduler']} {p['priority']}  cpus {cpus}  {p.get('detail', '')}".rstrip()
        )
    for p in s["processes"]:
        for g in p.get("realtime", ()):
            missing = "" if g["ok"] else f"   <-- MISSING: {g['remedy']}"
            lines.append(f"  {g['name']:<18}asked {g['asked']:<16}got {g['granted']}{missing}")
    lines += [
        "",
        f"tick {s['tick']}   {s['rate_hz']:.2f} Hz   phase {stats['phase']}   hold {stats['hold']}"
        + (f": {stats['why']}" if stats.get("why") else ""),
        f"  count {stats['count']}   overruns {stats['overruns']}   holds {stats['holds']}   "
        f"episodes {stats.get('episodes', 0)}   successes {stats.get('successes', 0)}",
    ]
    for name, label in (("wake_error_us", "wake error"), ("work_us", "work")):
        d = stats[name]
        lines.append(
            f"  {label:<11} p50 {d['p50']:>8.1f}   p99 {d['p99']:>8.1f}   "
            f"p99.9 {d['p99.9']:>8.1f}   max {d['max']:>8.1f} us   (last {stats['window']} ticks)"
        )
    lines += ["", *_joint_lines(s["joints"])]
    lines += ["", *_chunk_lines(chunk), "", *_inference_lines(inference), ""]
    if s["cameras"]:
        lines += [*_camera_lines(s), ""]
    lines.append(f"{'ring':<18}{'slots':>6}{'head':>9}{'bytes':>12}{'age':>12}")
    for r in s["rings"]:
        age = "-" if r["age_ms"] is None else f"{r['age_ms']:.1f} ms"
        lines.append(f"{r['name']:<18}{r['slots']:>6}{r['head']:>9}{r['bytes']:>12}{age:>12}")
    return "\n".join(map(printable, lines))


def _joint_lines(joints: list[dict[str, Any]]) -> list[str]:
    lines = ["joints, degrees"]
    for group in joints:
        for key in ("measured", "commanded"):
            degrees = group[f"{key}_deg"]
            row = "-" if degrees is None else " ".join(f"{d:>8.2f}" for d in degrees)
            lines.append(f"  {group['group']:<14}{key:<10}{row}")
    return lines


def _chunk_lines(chunk: dict[str, Any]) -> list[str]:
    if chunk["id"] < 0:
        return ["chunk: none in use"]
    counted = "-" if chunk["d_counted"] is None else chunk["d_counted"]
    lines = [
        f"chunk {chunk['id']}   mode {chunk['mode']}{' (cold)' if chunk['cold'] else ''}   "
        f"first tick {chunk['first_tick']}   row {chunk['row']} of H {chunk['H']}   "
        f"left {chunk['rows_left']}   d planned {chunk['d_planned']}, counted {counted}   "
        f"s {chunk['s']}",
        f"  {'row':>5} {'W':>8}   actions (rad)",
    ]
    for i, (weight, row) in enumerate(zip(chunk["weights"], chunk["actions"], strict=True)):
        mark = ">" if chunk["row"] >= 0 and i == int(chunk["row"]) else " "
        lines.append(f" {mark}{i:>5} {weight:>8.4f}   " + " ".join(f"{a:>7.3f}" for a in row))
    return lines


def _inference_lines(inference: dict[str, Any]) -> list[str]:
    lines = [
        f"inference: {inference['published']} chunks published, {inference['late']} late, "
        f"{inference['dropped']} dropped{_outcomes(inference['outcomes'])}",
        f"  {'chunk':>6}{'tick':>8}{''.join(f'{part:>9}' for part in PARTS)}"
        f"{'total ms':>10}{'d plan':>8}{'count':>7}{'s':>4}",
    ]
    for i in inference["last"]:
        counted = "-" if i["d_counted"] is None else i["d_counted"]
        took = "".join(f"{i[f'{part}_ms']:>9.2f}" for part in PARTS)
        lines.append(
            f"  {i['id']:>6}{i['obs_tick']:>8}{took}{i['total_ms']:>10.2f}"
            f"{i['d_planned']:>8}{counted:>7}{i['s']:>4}{'  cold' if i['cold'] else ''}"
        )
    return lines


def _outcomes(outcomes: dict[str, int]) -> str:
    """Of a policy on another machine; a local one has none."""
    told = [f"{count} {name.lower()}" for name, count in outcomes.items() if count]
    return "   outcomes: " + ", ".join(told) if told else ""


def _camera_lines(s: dict[str, Any]) -> list[str]:
    lines = [f"{'camera':<18}{'age':>12}{'rate':>12}{'skew':>12}   (to the newest state)"]
    for camera in s["cameras"]:
        columns = (("age_ms", ".1f", "ms"), ("rate_hz", ".1f", "Hz"), ("skew_ms", "+.1f", "ms"))
        figures = (
            "-" if camera[key] is None else f"{camera[key]:{form}} {unit}"
            for key, form, unit in columns
        )
        lines.append(f"{camera['name']:<18}" + "".join(f"{figure:>12}" for figure in figures))
    if len(s["cameras"]) > 1 and s["cameras_apart_ms"] is not None:
        lines.append(f"  their newest frames lie {s['cameras_apart_ms']:.1f} ms apart")
    return lines
