"""The supervisor: creates the session, spawns and watches its processes, owns the names.

Guarantees:
  - Nothing of the session is left in /dev/shm when `close` has run.
  - A child that should live and dies is restarted, with growing pauses and a bound, except for
    control: without it the session stops. What it said before it died is told. Without a recording
    the session goes on.
Assumptions:
  - Spawned from the main thread: the children's PR_SET_PDEATHSIG is bound to it.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

from rt import clock
from rt.config import Config
from rt.errors import RtError, SessionLiveError
from rt.events import Event
from rt.launcher.children import RESTARTS, Child
from rt.records import STATUS, camera_child
from rt.robots.robot import find_backend, resolve
from rt.session import Lock, Session, holder, ring_table, robot_lock

INFERENCE_STATUSES = 128  # of up to 200 a second: what was refused is told four times a second
GRACE_S = 1.0  # from SIGTERM to SIGKILL
RECORDED_S = 5.0  # for a recording to write what it holds: what is killed loses its last second
SAFE_STOP_START_S = 5.0  # to import its driver and to find the robot
CONTROL_SILENT_S = 2.0  # without a tick: it hangs
MODULES = {
    "inference": "rt.infer.process",
    "control": "rt.control.process",
    "safe_stop": "rt.robots.safe_stop",  # only after control was killed
}
CAMERA = "rt.cameras.process"
RECORD = "rt.record.process"


class ChildFailedError(RtError):
    """A child ended with a fault that a restart would not mend. Exit code 2 if it was a user's
    mistake that the child found, else 1."""

    def __init__(self, message: str, child_exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = 2 if child_exit_code == 2 else 1


class Supervisor:
    """The life of one session. Use as a context manager."""

    def __init__(self, config: Config, tell: Callable[[Event], None]) -> None:
        """Take the session's lock, remove what a dead session left, make the rings.

        `tell`: what happens to its processes goes there.

        Raises SessionLiveError when the session, or an orphaned control process of it, lives.
        """
        self.config = config
        self.session = Session(config.run.session)
        self.children: dict[str, Child] = {}
        self.helpers: list[Child] = []  # the robot's own and its cameras: they run first
        self._tell_of = tell
        self._lock = Lock(config.run.session, "supervisor")
        try:
            # Both locks, so that no orphaned control process can begin to use what we remove.
            with self._control_lock():
                self.cleaned = self.session.clean()
                self._create(config)
        except BaseException:
            self.close()
            raise

    def _control_lock(self) -> Lock:
        try:
            return Lock(self.session.name, "control")
        except SessionLiveError:
            raise SessionLiveError(
                f"session {self.session.name!r}: its control process (pid "
                f"{holder(self.session.name, 'control')}) still lives although its supervisor is "
                "gone: wait until it has stopped, or stop it"
            ) from None

    def _create(self, config: Config) -> None:
        backend = find_backend(config)
        helpers = dict(backend.processes)
        if config.run.real:
            helpers |= dict.fromkeys(map(camera_child, config.params.camera_names), CAMERA)
        modules = MODULES | helpers | ({"record": RECORD} if config.run.record else {})
        table = ring_table(config) | {f"status.{name}": (STATUS, 4) for name in modules}
        table["status.inference"] = (STATUS, INFERENCE_STATUSES)
        if backend.rings:
            table |= resolve(backend.rings, config)(config)
        self.session.create(table)
        self.session.publish_config(config)
        self._ticks = self.session.reader("tick")
        self._tick = self._ticks.buffer()
        self.children = {
            name: Child(self.session, name, module) for name, module in modules.items()
        }
        self.helpers = [self.children[name] for name in helpers]

    def restarts(self) -> dict[str, int]:
        """How often each child was restarted."""
        return {name: child.restarts for name, child in self.children.items()}

    def watch(self) -> None:
        """One look at every spawned child.

        Raises ChildFailedError when the session cannot go on.
        """
        for child in self.children.values():
            if not child.pid:
                continue
            if child.exit_code is None:
                self._watch_living(child)
            else:
                self._watch_dead(child)

    def _watch_living(self, child: Child) -> None:
        if child.name == "control":
            self._check_ticking(child)
        timeout = self.config.params.inference_timeout_s
        if child.name == "inference" and child.silent_for() > timeout:
            self._tell("killed", f"inference has not beaten for {timeout:g} s", ": killed")
            child.kill()
        child.note_running()

    def _watch_dead(self, child: Child) -> None:
        control = child.name == "control"
        if control and child.exit_code == 0:
            return  # stopped in order: the launcher sees it
        words = self._last_words(child)
        if child.name == "record" and (child.exit_code in (0, 2) or child.beyond_repair):
            child.give_up()
            self._tell("recording", words, ": nothing more is recorded")
            return
        if control or child.beyond_repair:
            raise ChildFailedError(words, child.exit_code)
        if child.restart_when_due():
            self._tell("restart", words, f"; restarted ({child.in_a_row} of {RESTARTS})")

    def _check_ticking(self, control: Child) -> None:
        """A control process that hangs, in its driver say, cannot be mended from here."""
        if control.state != "running" or self._ticks.read_latest(self._tick) is None:
            return
        limit_s = max(CONTROL_SILENT_S, 10 * self.config.period_ns / 1e9)
        silent_s = (clock.now_ns() - int(self._tick["t_done"])) / 1e9
        if silent_s > limit_s:
            raise ChildFailedError(
                f"control (pid {control.pid}) has run no tick for {silent_s:.1f} s: it hangs, "
                "perhaps in the robot's driver; the session is stopped",
                None,
            )

    def _last_words(self, child: Child) -> str:
        code = child.exit_code
        if code is None:
            return f"{child.name} (pid {child.pid}) does not end, though it was killed"
        cause = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if child.state == "failed":
            return child.detail if code == 2 else f"{child.name}: {child.detail} ({cause})"
        return f"{child.name} (pid {child.pid}) died while {child.state}: {cause}"

    def stop(self) -> bool:
        """Control first: it holds and shuts the robot down while simulator and cameras still run.

        False if control had a robot in its hands and did not end by itself: then the robot was
        not shut down.
        """
        deadline = time.monotonic() + GRACE_S
        control, inference = self.children.get("control"), self.children.get("inference")
        for child in (control, inference):
            if child:
                child.terminate()
        if control:
            control.end(deadline)
            if control.exit_code and control.state == "running":
                self._stop_safely()
        for child in self.children.values():
            child.terminate()
        for child in self.children.values():  # the recording comes last
            child.end(deadline if child.name != "record" else time.monotonic() + RECORDED_S)
        record = self.children.get("record")
        if record and record.pid and record.exit_code != 0 and record.status is not None:
            words = self._last_words(record)  # nobody watches any more
            record.give_up()
            self._tell("recording", words, ": its end is missing")
        # Until its first status it has no robot, and SIGTERM ends it as it ends any process.
        return control is None or control.exit_code == 0 or control.status is None

    def _stop_safely(self) -> None:
        """Control was killed in mid-run: bring the robot to rest, if `safe_stop_s` asks for it."""
        seconds, child = self.config.robot.safe_stop_s, self.children["safe_stop"]
        if seconds and not child.pid and not self.config.run.dry_run:
            child.spawn()
            child.end(time.monotonic() + seconds + SAFE_STOP_START_S)
            if child.exit_code:
                self._tell("safe_stop", f"safe stop: {self._last_words(child)}")

    def _tell(self, kind: str, reason: str, consequence: str = "") -> None:
        ticked = self._ticks.read_latest(self._tick) is not None
        tick = int(self._tick["tick"]) if ticked else -1
        self._tell_of(Event(clock.now_ns(), tick, kind, reason + consequence, reason))

    def force(self) -> None:
        """A second Ctrl-C: called in the signal handler, so it waits for nothing."""
        for child in self.children.values():
            child.signal_kill()

    def close(self) -> None:
        """Make sure that every child is gone, then remove every name of the session."""
        for child in self.children.values():
            child.kill()
        # Taking control's locks removes the files that a killed control left. An orphan's session
        # is not ours to clean: then the lock is refused, and nothing happens.
        try:
            with contextlib.suppress(SessionLiveError), Lock(self.session.name, "control"):
                self.session.clean()
                with robot_lock(self.config):
                    pass
        finally:
            self._lock.release()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            in_order = self.stop()
        finally:
            self.close()
        if not in_order and exc[0] is None:
            raise ChildFailedError(
                "control did not end in time and was killed: the robot was not shut down", None
            )
