"""Brings the robot to rest after its control process was killed: a child of the supervisor's.

Guarantees:
  - A robot that was never commanded is left as it is.

Assumptions:
  - Control is dead, so nothing else commands the robot, and its last tick is still in the ring.
  - The supervisor ends this process when it takes too long: a driver may block.
"""

from __future__ import annotations

import signal
import sys

from rt import child
from rt.child import Status
from rt.robots.robot import SafeStop, open_robot
from rt.session import Session, robot_lock


def run(session: Session, status: Status) -> None:
    """The whole life of the process."""
    if not was_commanded(session):
        return
    config = session.config()
    with robot_lock(config):
        robot = open_robot(config, session)
        try:
            status.write("finding the robot", beat=False)
            robot.start_state_readers()
            status.write("stopping the robot", beat=False)
            if isinstance(robot, SafeStop):  # `open_robot` has seen to it
                robot.safe_stop()
        finally:
            robot.shutdown()


def was_commanded(session: Session) -> bool:
    """Whether control ever sent the robot anything: then it was on its way to an initial pose."""
    with session.reader("tick") as ticks:
        record = ticks.buffer()
        return ticks.read_latest(record) is not None and int(record["moves"]) > 0


if __name__ == "__main__":
    sys.exit(child.start(run, on_orphaned=signal.SIGTERM))
