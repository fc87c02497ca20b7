"""A real `python -m rt.robots.fake` under test, on loopback, ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dds_env import fresh_domain, fresh_robot_id
from launched import PATIENCE_S, ROOT, SHM, Launched, segments, until

from rt.robots.fake.presence import Presence, fake_name, find_fake, give_fault
from rt.robots.fake.report import Report, Stream
from rt.session import Session


def driving(
    label: str, fake: Fake, *arguments: str, gated: bool = False, session: str = ""
) -> Launched:
    """A launch that drives the fake robot; `gated`: not before the operator's `go`."""
    yes = () if gated else ("--yes",)
    return Launched(label, "--io", "dds", *yes, *fake.where, *arguments, session=session)


class Fake:
    """A fake robot's process. Use as a context manager: it lives within, and nothing of it is left
    afterwards."""

    def __init__(
        self, robot: str = "igris_b", *arguments: str, robot_id: str = "", domain: int = 0
    ) -> None:
        self.robot = robot
        self.robot_id = robot_id or fresh_robot_id()
        self.domain = domain or fresh_domain()
        self.name = fake_name(robot, self.robot_id, self.domain)
        self.log = Path(os.environ.get("TMPDIR", "/tmp")) / f"rt-test-{self.name}.log"
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Presence:
        """Begin to play, also again after `kill`; returns once it plays."""
        who = ("--robot_id", self.robot_id, "--domain", str(self.domain))
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-u", "-m", "rt.robots.fake", "--robot", self.robot),
                    *(*who, *self._arguments),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        process = self.process

        def look() -> Presence | None:
            assert process.poll() is None, self.output
            return self.presence

        return until("the fake robot to play", look)

    @property
    def where(self) -> tuple[str, ...]:
        """The flags with which a launch finds it."""
        return (
            *("--set", f"topics.robot_id={self.robot_id}"),
            *("--set", f"run.domain={self.domain}"),
        )

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def presence(self) -> Presence | None:
        return find_fake(self.robot, self.robot_id, self.domain)

    @property
    def report(self) -> Report:
        """What it has seen; of one that lives."""
        presence = self.presence
        assert presence is not None, self.output
        return presence.report

    def stream(self, topic: str) -> Stream:
        """What it has seen of the commands on the topic whose name ends so."""
        return next(s for name, s in self.report.streams.items() if name.endswith(topic))

    def settle(self) -> None:
        """Return once the report tells all that came before."""
        with Session(self.name).reader("fake") as ring:
            head = ring.head
            until("two reports", lambda: ring.head >= head + 2)

    def when(self, what: str, true: Callable[[Report], object]) -> Report:
        """The first report of which `true` holds."""
        until(what, lambda: true(self.report))
        return self.report

    def fault(self, text: str) -> None:
        """Have it begin with a fault."""
        give_fault(self.robot, self.robot_id, self.domain, text)

    def kill(self) -> None:
        """As kill -9 does: what it had in /dev/shm stays."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it in order, and its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Fake:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for name in segments(self.name):
            (SHM / name).unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
