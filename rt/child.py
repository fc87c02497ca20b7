"""What every process that the supervisor spawns does first, and how it tells how it fares.

Guarantees:
  - A child never reacts to Ctrl-C or a hang-up: the supervisor alone does, and tells it (SIGTERM).
    Both are blocked from before the spawn until they are ignored, so there is no gap.
  - A child does not outlive its supervisor: the kernel signals it (PR_SET_PDEATHSIG), and a
    supervisor that died before that was set is noticed by its pid.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Self

from rt import clock
from rt.errors import RtError
from rt.session import Session
from rt.shm import Ring

PR_SET_PDEATHSIG = 1
QUIET_SIGNALS = (signal.SIGINT, signal.SIGHUP)


class Status:
    """This process's line in the session: its ring `status.<name>`."""

    def __init__(self, session: Session, name: str) -> None:
        self.name = name  # the child's
        self._ring: Ring = session.writer(f"status.{name}")
        self._record = self._ring.buffer()
        self._record["pid"] = os.getpid()

    def write(
        self, state: str, *, progress: float = 1.0, detail: str | bytes = "", beat: bool = True
    ) -> None:
        """Publish the state. `beat` False: the heartbeat of this process is in another ring."""
        record = self._record
        record["state"] = state.encode()
        record["heartbeat"] = clock.now_ns() if beat else 0
        record["progress"] = progress
        text = detail.encode() if isinstance(detail, str) else detail
        record["detail"] = text[: record["detail"].dtype.itemsize]
        self._ring.write(record)

    def count(self, late: int, dropped: int, outcomes: Sequence[int]) -> None:
        """Inference's counters, published with the next write or beat. outcomes: by `Outcome`."""
        self._record["late"], self._record["dropped"] = late, dropped
        self._record["outcomes"] = outcomes

    def beat(self) -> None:
        """Only the heartbeat."""
        self._record["heartbeat"] = clock.now_ns()
        self._ring.write(self._record)

    def close(self) -> None:
        self._ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def start(run: Callable[[Session, Status], None], *, on_orphaned: signal.Signals) -> int:
    """Run a child: `python -m <module> <session> <supervisor pid> <its name>`. Returns its exit
    code.

    `on_orphaned` is sent by the kernel when the supervisor dies. A failure is written into the
    status ring, from where the supervisor tells it: a child itself prints nothing.
    """
    session_name, supervisor, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    for quiet in QUIET_SIGNALS:
        signal.signal(quiet, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, QUIET_SIGNALS)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, on_orphaned)
    if os.getppid() != supervisor:
        return 1
    session = Session(session_name)
    with Status(session, name) as status:
        try:
            run(session, status)
        except RtError as error:
            status.write("failed", detail=str(error))
            return error.exit_code
        except Exception as error:
            status.write("failed", detail=f"{type(error).__name__}: {error}")
            raise  # a bug: the traceback belongs on stderr
        status.write("ended")
    return 0
