"""`python -m rt.inspect`: a session's live state, once or live, as text, drawn or as a page."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rt.cameras.pictures import save_frames
from rt.cli import end_with_sentence, is_live, pick_session, underscored
from rt.dashboard.text import render
from rt.session import Session, clean_dead_sessions, session_names
from rt.snapshot import Snapshots


def clean(name: str | None) -> int:
    """Remove what dead sessions left, or that one of them."""
    removed = clean_dead_sessions([n for n in session_names() if name in (None, n)])
    for session, rings in removed.items():
        print(f"session {session}: removed {len(rings)} segments ({', '.join(rings) or 'none'})")
    if not removed:
        print("nothing to clean")
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0; 2: a mistake; 3: no session."""
    args = _parse(underscored(argv))
    if args.clean:
        return clean(args.session)
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
    add("--json", action="store_true", help="the same as JSON; with --watch an object a line")
    add("--watch", action="store_true", help="a dashboard, until Ctrl-C")
    add("--interval", type=float, default=0.5, help="seconds between two looks")
    add("--plot", type=Path, metavar="FILE.png", help="draw jitter, delays and actions")
    add("--last", type=float, default=10.0, metavar="SECONDS", help="of which --plot tells")
    add("--web", action="store_true", help="a page for the browser, until Ctrl-C")
    add("--host", default="127.0.0.1", help="for --web; beyond loopback a token is needed")
    add("--port", type=int, default=8321, help="for --web; 0: any that is free")
    add("--token_file", type=Path, help="for --web: the token is its first line")
    add("--clean", action="store_true", help="remove what dead sessions left, or --session")
    add("--frames", type=Path, metavar="DIR", help="save each camera's newest frame as a PNG")
    args = parser.parse_args(argv)
    for name in ("interval", "last"):
        if not 0 < (seconds := getattr(args, name)) < 3600:
            parser.error(
                f"--{name}: expected more than 0 and less than 3600 seconds, got {seconds}"
            )
    if not 0 <= args.port < 65536:
        parser.error(f"--port: expected a number from 0 to 65535, got {args.port}")
    return args


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
