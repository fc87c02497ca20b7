"""A robot over DDS: how old its state is at the tick, and what a tick costs.

The fake robot is a process of its own that publishes at 300 Hz on loopback. The peer is the same
tick at the same pace with the simulator's rings, by turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from budgets import judge
from fed_loop import FedLoop, as_control
from feed import CHUNK_EVERY, session_for
from playing import Fake
from ratio import told
from results import keep, report

from rt.config import Config
from rt.config.load import load_config
from rt.control.ticker import Ticker
from rt.launcher.options import parse
from rt.records import Hold
from rt.robots.dds import DdsBus
from rt.robots.robot import Robot
from rt.robots.sim.robot import SimRobot
from rt.robots.topics.robot import TopicRobot
from rt.session import Session

STATE_HZ = 300


class Figures(NamedTuple):
    """Of many ticks."""

    age_ms: np.ndarray  # of the joints' message, whose stamp is this machine's own wall clock
    took_us: np.ndarray


@pytest.fixture(scope="module")
def config() -> Iterator[Config]:
    """IGRIS_B over DDS, played by the fake robot."""
    with Fake("igris_b", "--rate", str(STATE_HZ)) as fake:
        flags = ["--robot", "igris_b", "--io", "dds", "--yes", *fake.where]
        yield load_config(parse([*flags, "--set", "warmup_ticks=0"])).config


@pytest.fixture
def session(config: Config) -> Iterator[Session]:
    with session_for("dds", config) as session:
        yield session


@pytest.fixture
def dds(config: Config) -> Iterator[Robot]:
    robot = TopicRobot(config, DdsBus(config.run.domain, loopback=True))
    try:
        robot.start_state_readers()
        yield robot
    finally:
        robot.shutdown()


class Side:
    """A control loop that stays at the initial pose, fed with chunks that say so."""

    def __init__(self, config: Config, session: Session, robot: Robot) -> None:
        self._period_ns = config.period_ns
        self._fed = FedLoop(config, session, robot)  # whose ticks go on over the rounds

    def run(self, seconds: float, age: Callable[[], int] = lambda: 0) -> Figures:
        """Tick in real time; it is fed, and `age` is called, at each tick, untimed."""
        fed, ticker, ages, took = self._fed, Ticker(self._period_ns), [], []
        for _ in range(round(seconds * 1e9 / self._period_ns)):
            assert ticker.wait() is not None
            fed.measure()  # which a robot over DDS does by itself: both do the same here
            took.append(fed.tick_now(ticker.skipped))
            ages.append(age() - took[-1])
            if fed.k % CHUNK_EVERY == 0:
                fed.infer()
        return Figures(np.array(ages) / 1e6, np.array(took) / 1e3)

    def settle(self) -> None:
        """Tick until it executes."""
        for _ in range(20):
            self.run(1.0)
            if self._fed.executing:
                return
        raise AssertionError(f"holds: {Hold(int(self._fed.loop.record['hold'])).name}")


def at(config: Config, ticks_per_row: int) -> Config:
    params = msgspec.structs.replace(config.params, ticks_per_row=ticks_per_row, episode_ticks=0)
    return msgspec.structs.replace(config, params=params)


@pytest.mark.parametrize("ticks_per_row", [1, 10])
def test_state_age(  # type: ignore[no-untyped-def]
    config: Config, session: Session, dds: Robot, ticks_per_row: int, benchmark, long: bool
) -> None:
    """Of the newest joint_states, as the tick that uses it begins, by the wall clock of the one
    machine that both run on. (The driver itself trusts no sender's clock.)"""

    def age() -> int:
        return time.time_ns() - dds._readings[0]._stamp  # type: ignore[attr-defined]

    side = Side(at(config, ticks_per_row), session, dds)
    side.settle()
    with as_control() as how:  # this thread alone: DDS's own began before
        seconds = 20.0 if long else 2.5
        figures = benchmark.pedantic(side.run, (seconds, age), rounds=1)
    p50, p99 = np.percentile(figures.age_ms, [50, 99])
    tick_us = float(np.median(figures.took_us))
    kept = {"p50_ms": p50, "p99_ms": p99, "ticks": len(figures.age_ms), "tick_us": tick_us}
    hz = 20 * ticks_per_row
    keep("real_robot", **{f"age_{hz}": {"hz": hz} | kept})
    report(
        f"state age at the tick, robot at {STATE_HZ} Hz, control at {hz} Hz, {how}",
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {figures.age_ms.max():.1f} ms of "
        f"{len(figures.age_ms)} ticks; tick p50 {tick_us:.0f} us",
    )


def test_tick(  # type: ignore[no-untyped-def]
    config: Config, session: Session, dds: Robot, benchmark, long: bool
) -> None:
    """Read two topics, run the loop, publish two commands, at 200 Hz."""
    config = at(config, 10)
    count, seconds = (15, 2.0) if long else (6, 0.75)  # of each side, by turns
    over_dds = Side(config, session, dds)
    over_dds.settle()
    with session_for("ddspeer", config) as rings:
        simulated = Side(config, rings, SimRobot(config, rings))
        simulated.settle()
        with as_control() as how:
            rounds = [
                (over_dds.run(seconds).took_us, simulated.run(seconds).took_us)
                for _ in range(count)
            ]
    benchmark.pedantic(over_dds.run, (0.5,), rounds=1)

    ratios = {
        p: [float(np.percentile(a, p) / np.percentile(b, p)) for a, b in rounds] for p in (50, 99)
    }
    (p50, p99), (peer_p50, peer_p99) = (
        np.percentile(np.concatenate(side), [50, 99]) for side in zip(*rounds, strict=True)
    )
    tick = {"p50_us": p50, "p99_us": p99, "peer_p50_us": peer_p50, "peer_p99_us": peer_p99}
    keep("real_robot", tick=tick | {"p50_ratios": ratios[50], "p99_ratios": ratios[99]})
    report(
        f"control tick over DDS, 24 joints, 2 topics in and 2 out, 200 Hz, {how}",
        f"p50 {p50:.0f} us, p99 {p99:.0f} us; over the simulator's rings: p50 {peer_p50:.0f} us, "
        f"p99 {peer_p99:.0f} us; ratio of the p50s {told(ratios[50])}, of the p99s "
        f"{told(ratios[99])}",
    )
    judge("tick.dds.p50", ratios[50])
    judge("tick.dds.p99", ratios[99])
