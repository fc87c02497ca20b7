"""A session whose /dev/shm fills up: `python chaos/sessions/full_shm.py`, where it may be filled.

Prints as JSON what was seen.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from launched import SHM, Launched, replaced, run_module

BALLAST = SHM / "ballast"


class Seen(msgspec.Struct):
    """What came of it."""

    session_octets: int  # what the session had allocated when it ran
    free_octets: int  # once it was filled
    ticks: int  # run while it was full
    chunks: int  # published while it was full
    answered: bool  # orders, by control
    restarted: bool  # inference, after it was killed
    exit_code: int
    left: list[str]  # in /dev/shm at the end, besides the ballast
    output: str


def fill() -> None:
    """Until not a page is left."""
    with BALLAST.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def main() -> None:
    """Fill it up under a running session, ask for a pause, kill inference, end in order."""
    with Launched("full-shm", "-P", "configs/policies/sway/policy.yaml") as run:
        before = run.when_chunks(2)
        allocated = sum(path.stat().st_blocks * 512 for path in SHM.iterdir())
        fill()
        disk = os.statvfs(SHM)
        run.when_chunks(before["inference"]["published"] + 2)
        orders = [
            run_module("rt.command", order, "--session", run.session)
            for order in ("pause", "resume")
        ]
        victim = run.pid("inference")
        os.kill(victim, signal.SIGKILL)
        published = run.when("a snapshot", bool)["inference"]["published"]
        after = run.when(
            "chunks of a new inference process",
            lambda s: s["chunk"]["id"] > published and replaced(s, "inference", victim),
        )
        code = run.stop()
        seen = Seen(
            session_octets=allocated,
            free_octets=disk.f_bavail * disk.f_frsize,
            ticks=after["tick"] - before["tick"],
            chunks=after["inference"]["published"] - before["inference"]["published"],
            answered=not any(order.returncode for order in orders),
            restarted="restarted (1 of" in run.output,
            exit_code=code,
            left=sorted(path.name for path in SHM.iterdir() if path != BALLAST),
            output=run.output,
        )
    print(msgspec.json.encode(seen).decode())


if __name__ == "__main__":
    main()
