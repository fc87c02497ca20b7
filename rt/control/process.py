"""The control process: open the robot, enter real time, tick until told to stop.

Spawned by the supervisor when inference is ready. Stops on SIGTERM (also when the supervisor
dies), on the operator's order, or after `--duration`; then it holds, and shuts the robot down.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from rt import child, clock
from rt.child import Status
from rt.config import Config
from rt.control import realtime
from rt.control.loop import ControlLoop
from rt.control.ticker import Ticker
from rt.records import Phase
from rt.robots.robot import Robot, open_robot
from rt.session import Lock, Session, robot_lock

BRAKE_NS = 500_000_000  # at most, at the end of a run: the supervisor waits a second


def open_loop(config: Config, session: Session) -> ControlLoop:
    """The control loop on the session's rings and robot, which is not started yet."""
    return ControlLoop(
        config,
        open_robot(config, session),
        ticks=session.writer("tick"),
        chunks=session.reader("chunk"),
        commands=session.reader("command"),
    )


@contextmanager
def started(robot: Robot) -> Iterator[None]:
    """Within, the robot reports; shut down whatever happens."""
    try:
        robot.start_state_readers()
        yield
    finally:
        robot.shutdown()


def hold_at_last(loop: ControlLoop, ticker: Ticker) -> None:
    """One last tick, which holds; more of them while the robot brakes."""
    loop.stopping = True
    end_ns = clock.now_ns() + BRAKE_NS
    while True:
        tick = ticker.wait()
        if tick is not None:
            loop.tick(tick, skipped=ticker.skipped)
        if loop.at_rest or clock.now_ns() + ticker.period_ns > end_ns:
            return


class Terminated(BaseException):
    """Told to stop while the robot is being started, which may wait."""


def run(session: Session, status: Status) -> None:
    """The whole life of the process."""
    with suppress(Terminated):
        _run(session, status)


def _run(session: Session, status: Status) -> None:
    stop, starting = False, True

    def on_terminate(*_: object) -> None:
        nonlocal stop, starting
        stop = True
        if starting:
            starting = False  # a second signal must not end the robot's shutdown
            raise Terminated

    config = session.config()
    with Lock(session.name, "control"), robot_lock(config):
        loop = open_loop(config, session)
        # From here on there is a robot to shut down. Until now SIGTERM just ends the process.
        signal.signal(signal.SIGTERM, on_terminate)
        status.write("starting the robot", beat=False)
        with started(loop.robot):
            starting = False
            grants = realtime.enter(
                config.robot.realtime, config.run.control_core, require=config.run.require_rt
            )
            ticker = Ticker(config.period_ns, spin_ns=config.robot.realtime.spin_us * 1000)
            status.write("running", detail=msgspec.json.encode(grants), beat=False)
            sweeper = realtime.Sweeper(every=round(config.control_hz))
            while not stop and loop.episode.phase is not Phase.STOPPED:
                tick = ticker.wait(lambda: stop)
                if tick is not None:
                    loop.tick(tick, skipped=ticker.skipped)
                    sweeper.after(tick.k)
            hold_at_last(loop, ticker)


if __name__ == "__main__":
    sys.exit(child.start(run, on_orphaned=signal.SIGTERM))
