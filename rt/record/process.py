"""The recording's process: beside a launch (`--record`), or started by `python -m rt.record`.

Guarantees:
  - It yields to every other process: control runs on another core, and it is niced.
  - When the supervisor dies it goes on until control has let go of the robot as well, and then ends
    in order, as when the session ends.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rt import child, cores
from rt.child import Status
from rt.record.output import check_folder
from rt.session import Session

POLL_S = 0.01  # a camera's ring comes round in 130 ms at 60 Hz
NICE = 5


def record(session: Session, folder: Path, tell: Callable[[str], None], *ends: int) -> str:
    """Record until one of the signals `ends` comes, or the session ends; returns how it went. Once
    a second `tell` is given that as well.

    Raises MissingPackageError, NoSessionError, ConfigError; SessionError when the disk is full.
    """
    check_folder(folder)
    from rt.record.recorder import Recorder  # only now that its packages are known to be there

    stop = False

    def on_signal(*_: object) -> None:
        nonlocal stop
        stop = True

    for number in ends:
        signal.signal(number, on_signal)
    cores.stand_aside(session.config().run.other_cores, NICE)
    with Recorder(session, folder) as recorder:
        while not (stop or recorder.over):
            if recorder.step():
                tell(str(recorder))
            time.sleep(POLL_S)
    return str(recorder)


def run(session: Session, status: Status) -> None:
    """The whole life of the process."""
    folder = Path(session.config().run.record)
    record(session, folder, lambda words: status.write("running", detail=words), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(child.start(run, on_orphaned=signal.SIGCONT))  # nothing: see the guarantees
