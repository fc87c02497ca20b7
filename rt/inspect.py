"""`python -m rt.inspect`: a session's live state, once or live, as text, drawn or as a page."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rt.cameras.pictures import save_frames
from rt.cli import end_with_sentence, is_live, pick_session, underscored
from rt.dashboard.printable import printable
from rt.session import Session, clean_dead_sessions
from rt.snapshot import Snapshots


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
        f"{inference['dropped']} dropped",
        f"  {'chunk':>6}{'tick':>8}{'observe':>9}{'encode':>9}{'denoise':>9}{'publish':>9}"
        f"{'total ms':>10}{'d plan':>8}{'count':>7}{'s':>4}",
    ]
    for i in inference["last"]:
        counted = "-" if i["d_counted"] is None else i["d_counted"]
        lines.append(
            f"  {i['id']:>6}{i['obs_tick']:>8}{i['observe_ms']:>9.2f}{i['encode_ms']:>9.2f}"
            f"{i['denoise_ms']:>9.2f}{i['publish_ms']:>9.2f}{i['total_ms']:>10.2f}"
            f"{i['d_planned']:>8}{counted:>7}{i['s']:>4}{'  cold' if i['cold'] else ''}"
        )
    return lines


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


def clean() -> int:
    """Remove what dead sessions left."""
    removed = clean_dead_sessions()
    for session, rings in removed.items():
        print(f"session {session}: removed {len(rings)} segments ({', '.join(rings) or 'none'})")
    if not removed:
        print("nothing to clean")
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0; 2: a mistake; 3: no session."""
    args = _parse(underscored(argv))
    if args.clean:
        return clean()
    session = Session(pick_session(args.session))
    if args.frames is not None:
        print("\n".join(save_frames(session, args.frames)))
        return 0
    # Imported by whoever asks for it: a plain look needs none of them.
    if args.plot is not None:
        from rt.dashboard.plot import plot_session

        print(plot_session(session, args.plot, args.last))
        return 0
    if args.web:
        from rt.web.serve import serve

        return serve(session, args.host, args.port, args.token_file)
    if args.watch and not args.json:
        from rt.dashboard.watch import watch

        return watch(session, args.interval)
    return print_snapshots(session, args)


def print_snapshots(session: Session, args: argparse.Namespace) -> int:
    """Once; with --watch again and again, until the session ends."""
    snapshots = Snapshots(session)
    try:
        while True:
            snapshot = snapshots.take()
            print(json.dumps(snapshot) if args.json else render(snapshot), flush=True)
            if not args.watch or not is_live(session.name):
                return 0
            time.sleep(args.interval)
    finally:
        snapshots.close()


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rt.inspect", description=__doc__)
    add = parser.add_argument
    add("--session", help="default: the one session that is running")
    add("--json", action="store_true", help="the same as JSON")
    add("--watch", action="store_true", help="a dashboard, until Ctrl-C")
    add("--interval", type=float, default=0.5, help="seconds between two looks")
    add("--plot", type=Path, metavar="FILE.png", help="draw jitter, delays and actions")
    add("--last", type=float, default=10.0, metavar="SECONDS", help="of which --plot tells")
    add("--web", action="store_true", help="a page for the browser, until Ctrl-C")
    add("--host", default="127.0.0.1", help="for --web; beyond loopback a token is needed")
    add("--port", type=int, default=8321, help="for --web; 0: any that is free")
    add("--token_file", type=Path, help="for --web: the token is its first line")
    add("--clean", action="store_true", help="remove dead sessions' segments")
    add("--frames", type=Path, metavar="DIR", help="save each camera's newest frame as a PNG")
    args = parser.parse_args(argv)
    for name in ("interval", "last"):
        if not 0 < (seconds := getattr(args, name)) < 3600:
            parser.error(f"--{name}: expected seconds between 0 and 3600, got {seconds}")
    if not 0 <= args.port < 65536:
        parser.error(f"--port: expected a number from 0 to 65535, got {args.port}")
    return args


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
