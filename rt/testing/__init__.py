"""Fakes for tests without a robot, a policy or a wait: shipped, because users need them too.

with SimulatedRun(config(min_num_actions_executed=4), delay=lambda n: 2.5) as run:
    run.tick(50)
    print([(r["tick"], r["chunk"], r["row"]) for r in run.ticks])
"""

from __future__ import annotations

from rt.testing.configs import TWO_ARMS, WIDE_OPEN, config
from rt.testing.fakes import FakeClock, FakeRobot, ScriptedPolicy, Sent
from rt.testing.network import BadNetwork, Weather
from rt.testing.simulated import SimulatedRun

__all__ = (
    "TWO_ARMS",
    "WIDE_OPEN",
    "BadNetwork",
    "FakeClock",
    "FakeRobot",
    "ScriptedPolicy",
    "Sent",
    "SimulatedRun",
    "Weather",
    "config",
)
