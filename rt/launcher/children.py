"""One child of the supervisor's: spawned, asked how it fares, restarted, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np

from rt import clock
from rt.child import QUIET_SIGNALS
from rt.records import AT_WORK, text
from rt.session import Session

RESTARTS = 5  # of one child; the count is forgotten after it has run for STEADY_S
STEADY_S = 60.0
REAPED_S = 1.0  # for a killed child to be gone
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Child:
    """One spawned process and what is known of it."""

    def __init__(self, session: Session, name: str, module: str) -> None:
        self.name = name
        self.restarts = 0  # all of them
        self.in_a_row = 0  # those without STEADY_S of running in between
        self._session = session
        self._module = module
        self._status = session.reader(f"status.{name}")
        self._record = self._status.buffer()
        self._process: subprocess.Popen[bytes] | None = None
        self._unready = 0.0  # when it was seen so last
        self._restart_at = 0.0
        self._was_ready = False

    def spawn(self) -> None:
        """Start it. Its signals are blocked until it has chosen to ignore them."""
        single = {} if self.name == "inference" else ONE_THREAD
        before = signal.pthread_sigmask(signal.SIG_BLOCK, QUIET_SIGNALS)
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", self._module),
                    *(self._session.name, str(os.getpid()), self.name),
                ],
                stdin=subprocess.DEVNULL,
                env=os.environ | single,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._unready = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or was never spawned)."""
        return self._process.poll() if self._process else None

    @property
    def status(self) -> np.ndarray[tuple[()], np.dtype[np.void]] | None:
        """Its newest status record; None if this incarnation has written none."""
        if self._status.read_latest(self._record) is None:
            return None
        return self._record if int(self._record["pid"]) == self.pid else None

    @property
    def state(self) -> str:
        """What it says it is doing."""
        status = self.status
        return text(status["state"]) if status is not None else "starting"

    @property
    def progress(self) -> float:
        status = self.status
        return float(status["progress"]) if status is not None else 0.0

    @property
    def detail(self) -> str:
        status = self.status
        return text(status["detail"]) if status is not None else ""

    @property
    def beyond_repair(self) -> bool:
        """Dead, and dead again if restarted: it never became ready, or too often before."""
        if self.in_a_row >= RESTARTS:
            return True
        return not self._was_ready and (self.exit_code == 2 or self.state == "failed")

    def note_running(self) -> None:
        """It runs: remember that it became ready, and forget its restarts after a while."""
        now = time.monotonic()
        if self.state not in AT_WORK:
            self._unready = now  # however long it loads, that is no steady running
            return
        self._was_ready = True
        if now - self._unready > STEADY_S:
            self.in_a_row = 0

    def silent_for(self) -> float:
        """Seconds since its heartbeat; 0 when it beats elsewhere, or is still loading."""
        status = self.status
        if status is None or not int(status["heartbeat"]) or self.state != "ready":
            return 0.0
        return (clock.now_ns() - int(status["heartbeat"])) / 1e9

    def restart_when_due(self) -> bool:
        """Spawn a dead child again once its pause is over. True when it was spawned."""
        now = time.monotonic()
        if not self._restart_at:
            self._restart_at = now + 0.1 * 2**self.in_a_row
        if now < self._restart_at:
            return False
        self._restart_at = 0.0
        self.in_a_row += 1
        self.restarts += 1
        self.spawn()
        return True

    def give_up(self) -> None:
        """It has ended, and is not started again."""
        self._process = None

    def terminate(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait until `deadline` (time.monotonic), then kill; reap."""
        if not self._process:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # in the kernel, on a dead disk
                self._process.wait(REAPED_S)

    def kill(self) -> None:
        """Kill and reap."""
        self.end(0.0)

    def signal_kill(self) -> None:
        """Only send SIGKILL: for a signal handler, which must not wait."""
        if self._process:
            self._process.kill()
