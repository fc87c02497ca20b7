"""`python -m rt.record`: record a running session to a file, until Ctrl-C or until it ends."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from rt.cli import end_with_sentence, pick_session, underscored
from rt.record.process import record
from rt.session import Session


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0; 2: a mistake, or a full disk; 3: no session."""
    parser = argparse.ArgumentParser(prog="python -m rt.record", description=__doc__)
    parser.add_argument("--session", help="default: the one session that is running")
    parser.add_argument(
        "--to", type=Path, default=Path("recordings"), metavar="DIR", help="default: recordings"
    )
    args = parser.parse_args(underscored(argv))
    session = Session(pick_session(args.session))
    print(f"recording session {session.name} to {args.to}: Ctrl-C ends it", flush=True)
    print(record(session, args.to, lambda words: None, signal.SIGINT, signal.SIGTERM))
    return 0


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
