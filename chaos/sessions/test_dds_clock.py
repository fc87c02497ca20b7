"""The DDS that pip installs waits until times of the wall clock: set back, it must still close."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from dds_env import fresh_domain
from launched import until
from wall_clock import WallClock, build, needs_compiler

from rt import clock
from rt.robots.dds import DdsBus

pytestmark = needs_compiler
CLOSES_WITHIN_S = 8.0  # else it waits for an hour
USER = Path(__file__).parent / "stand_ins" / "bus_user.py"


def test_a_bus_whose_clock_was_set_back_closes(tmp_path: Path) -> None:
    wall, domain = WallClock(build(tmp_path), tmp_path / "clock"), fresh_domain()
    command = [sys.executable, str(USER), str(domain), "/ours", "/theirs"]
    with (
        closing(DdsBus(domain, loopback=True)) as bus,
        subprocess.Popen(command, env=os.environ | wall.environment) as user,
    ):
        try:
            theirs = bus.subscribe("/theirs", "JointState")
            ours = bus.advertise("/ours", "JointState")

            def heard() -> bool:
                ours.publish(bus.message("JointState"))
                time.sleep(0.01)
                return theirs.take() is not None

            until("the other to be heard", heard)
            for ahead_s in (3600, 0):
                wall.set(ahead_s)
                end = clock.now_ns() + clock.NS_PER_S
                until("a second of messages", lambda end=end: heard() and clock.now_ns() > end)
            user.terminate()
            assert user.wait(CLOSES_WITHIN_S) == 0
        finally:
            user.kill()
