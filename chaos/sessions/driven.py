"""A launch against a fake robot of its own, which can be launched again as often as it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from judge import Judge
from launched import Launched, belongs, unique_session
from playing import Fake, driving
from strays import strays
from tick_log import TickLog, executes

from rt.records import Hold, text
from rt.robots.fake.report import Stream
from rt.session import Session

CAMERAS = ("camera.head", "camera.left", "camera.right")
CHILDREN = ("control", "inference", *CAMERAS)
AT_WORK = ("ready", "running")
ARM_SLEW_DEG = 2.5  # per row: less than the policy wants, so that the limit is felt
PATIENCE_S = 170.0  # generous: the machine may be shared


class Driven:
    """Use as a context manager: on leaving, nothing of it is left."""

    run: Launched
    log: TickLog
    judge: Judge

    def __init__(self, label: str) -> None:
        self.session = unique_session(label)
        self.fake = Fake()
        self.robot = f"robot-igris_b-{self.fake.robot_id}-{self.fake.domain}"  # of its lock
        self._heard: list[tuple[str, Stream]] = []  # by fake robots that are no more

    def launch(self) -> None:
        """Start a session; returns once its rings can be read."""
        if hasattr(self, "run"):
            self.run.log.unlink()  # all that the one before had left is for this one to remove
        slew = ("--set", f"params.max_delta_deg={ARM_SLEW_DEG}")
        self.run = driving("driven", self.fake, *slew, session=self.session)
        made = f"session {self.session}: robot"  # which it says when its rings are
        self.run.until("the session's rings", lambda: made in self.run.output)
        session = Session(self.session)
        self.statuses = {name: session.reader(f"status.{name}") for name in CHILDREN}
        self.frames = {name: session.reader(name.replace("camera.", "frame.")) for name in CAMERAS}
        self.chunks = session.reader("chunk")
        self.log = TickLog(session)
        self.judge = Judge(self.log)

    def status(self, name: str) -> Any:
        """The newest status record of a child; None if it has written none."""
        record = self.statuses[name].buffer()
        return None if self.statuses[name].read_latest(record) is None else record

    def pid(self, name: str) -> int:
        """Of a process that lives and is this session's, so that it may be signalled; 0: none."""
        if name == "fake":
            process = self.fake.process
        elif name == "supervisor":
            process = self.run.process
        else:
            status = self.status(name)
            pid = 0 if status is None else int(status["pid"])
            return pid if belongs(pid, self.session) else 0
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def at_work(self) -> bool:
        """Whether every process lives and does its work, and control executes a chunk."""
        self.log.look()
        for name in CHILDREN:
            if not self.pid(name) or text(self.status(name)["state"]) not in AT_WORK:
                return False
        return executes(self.log.last)

    def until(self, what: str, look: Callable[[], Any]) -> Any:
        """Look until there is something to see, while the session runs."""
        try:
            return self.run.until(what, look, PATIENCE_S)
        except AssertionError as error:
            told = {name: self.status(name) for name in CHILDREN}
            states = {name: text(s["state"]) for name, s in told.items() if s is not None}
            tick = self.log.last
            why = "" if tick is None else f"{Hold(int(tick['hold'])).name}: {text(tick['why'])}"
            raise AssertionError(f"{error}\n{states}\n{why}") from None

    def until_at_work(self) -> None:
        self.until("all of it to be at work", lambda: self.at_work)

    def kill_fake(self, number: signal.Signals) -> None:
        """End the robot, once it has told what it heard."""
        self.fake.settle()
        self._heard += self.fake.report.streams.items()
        self.fake.stop(number)

    def heard(self) -> list[tuple[str, Stream]]:
        """What this robot and those before it were commanded, by topic."""
        self.fake.settle()
        return [*self._heard, *self.fake.report.streams.items()]

    def strays(self) -> list[str]:
        """What is wrong with that."""
        return strays(self.heard(), self.log.config)

    def __enter__(self) -> Driven:
        self.fake.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "run"):
            self.run.__exit__()
        self.fake.__exit__()
