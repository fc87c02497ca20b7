"""A real `python -m rt.launch` under test, with its own session name, ended whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHM = Path("/dev/shm")
PATIENCE_S = 60.0  # generous: these machines are shared; budgets live in bench/
# Runs a command as root without the rights that real time needs.
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-sys_nice,-ipc_lock")
_numbers = itertools.count()


def unique_session(label: str) -> str:
    return f"t{os.getpid()}-{next(_numbers)}-{label}"


def segments(session: str) -> list[str]:
    """What the session has in /dev/shm."""
    return sorted(p.name for p in SHM.glob(f"rt.{session}.*"))


def run_module(module: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m module …` to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        **options,
    )


def start_module(module: str, *arguments: str) -> subprocess.Popen[str]:
    """`python -m module …`, which Ctrl-C ends."""
    # A shell that runs tests in the background has them ignore it, and so their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def marked(mark: str) -> Iterator[int]:
    """The processes with that word in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


def belongs(pid: int, session: str) -> bool:
    """Whether the process lives and has the session's name among its words: it is its own, and may
    be signalled, whoever had its pid before."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return session.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def processes(session: str) -> list[int]:
    """Those that belong to it."""
    pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if belongs(pid, session)]


def replaced(seen: dict[str, Any], name: str, victim: int, state: str = "") -> bool:
    """Whether a snapshot has another process of that name than `victim`; if given, in `state`."""
    return any(
        p["name"] == name and p["pid"] != victim and p["state"] == (state or p["state"])
        for p in seen["processes"]
    )


def until(what: str, look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Look until there is something to see."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s} s in vain: {what}")


class Launched:
    """A running launch. Use as a context manager: on leaving, nothing of it is left."""

    def __init__(self, label: str, *arguments: str, session: str = "") -> None:
        self.session = session or unique_session(label)
        self.log = (
            Path(os.environ.get("TMPDIR", "/tmp")) / f"rt-test-{self.session}-{next(_numbers)}.log"
        )
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-u", "-m", "rt.launch", "--robot", "igris_b"),
                    *("--session", self.session, *arguments),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def inspect(self) -> dict[str, Any] | None:
        """A snapshot; None while there is no session to look at."""
        from rt.errors import RtError
        from rt.session import Session
        from rt.snapshot import Snapshots

        try:
            snapshots = Snapshots(Session(self.session))
        except (RtError, KeyError):
            assert self.process.poll() is None, self.output
            return None
        try:
            return json.loads(json.dumps(snapshots.take()))
        finally:
            snapshots.close()

    def until(self, what: str, look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Look until there is something to see, while it runs."""

        def look_on() -> Any:
            assert self.process.poll() is None, f"it ended before {what}"
            return look()

        try:
            return until(what, look_on, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def when(
        self, what: str, true: Callable[[dict[str, Any]], object], patience_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """The first snapshot of which `true` holds."""

        def look() -> dict[str, Any] | None:
            seen = self.inspect()
            return seen if seen and true(seen) else None

        try:
            return until(what, look, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}\n{self.inspect()}") from None

    def when_chunks(self, count: int) -> dict[str, Any]:
        """Once `count` chunks were published and one is being executed."""
        return self.when(
            f"{count} chunks",
            lambda s: s["inference"]["published"] >= count and s["chunk"]["id"] >= 0,
        )

    def pid(self, name: str) -> int:
        snapshot = self.when(name, lambda s: any(p["name"] == name for p in s["processes"]))
        return next(p["pid"] for p in snapshot["processes"] if p["name"] == name)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """Ctrl-C, and its exit code."""
        self.signal(signal.SIGINT)
        return self.wait()

    def nothing_left(self) -> None:
        """Neither a segment nor a process."""
        assert segments(self.session) == []
        until("its processes to end", lambda: not processes(self.session))

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pid in processes(self.session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in segments(self.session):
            (SHM / name).unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
