"""The whole demonstration over real DDS: the fake robot, `rt.launch --io dds`, real cameras'
processes, the real policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from launched import Launched, run_module, until
from playing import Fake, driving
from strays import SINGLE_PRECISION_DEG, strays
from tick_log import TickLog, executes, follow

from rt import clock
from rt.records import Hold, Phase, text
from rt.robots.sim.world import INITIAL_RAD

SLOWLY = ("--set", "params.max_delta_deg=2.5")  # less than the policy wants: the limit is felt
IGRIS_C = (
    *("--robot", "igris_c"),
    *("--set", "params.max_delta_deg=0.1", "--set", "params.warmup_ticks=0"),
)
IGRIS_C_SLEW_DEG = 0.1 / 15  # of a tick: less than the policy wants
TIGHTLY_FOLLOWED = ("--set", "robot.max_following_error_deg=12")
STRAYED_DEG = 15.0


def strayed(tick: Any) -> bool:
    """Whether it was commanded away from where a fake robot starts."""
    return bool(np.degrees(np.abs(tick["command"] - INITIAL_RAD).max()) > STRAYED_DEG)


def was_driven_within_the_limits(fake: Fake, log: TickLog) -> None:
    fake.settle()
    assert fake.stream("target_joints").commands > 10
    assert strays(fake.report.streams.items(), log.config) == []


def test_the_policy_reaches_the_target_over_dds() -> None:
    with Fake() as fake, driving("dds", fake, *SLOWLY) as run:
        ticks = follow(run)
        first = ticks.when("a row to be executed", executes)
        fake.when("the target to be reached", lambda report: report.reached >= 1)
        last = ticks.when("a row to be executed", executes)
        assert np.degrees(np.abs(last["state"] - first["state"]).max()) > 10
        assert run.stop() == 0
        run.nothing_left()
        assert f"robot {fake.robot_id} is the fake one" in run.output
        was_driven_within_the_limits(fake, ticks)


def test_igris_c_sways_at_300_hz_and_is_held_while_a_motor_reports_an_error() -> None:
    with Fake("igris_c") as fake, driving("dds", fake, *IGRIS_C) as run:
        ticks = follow(run)
        first = ticks.when("a row to be executed", executes)
        ticks.when(
            "the arms to sway",
            lambda tick: np.degrees(np.abs(tick["command"] - first["command"]).max()) > 1,
        )
        fake.fault("status 0.5 17")
        ill = ticks.when("a hold", lambda tick: int(tick["hold"]) == Hold.ROBOT_FAULT)
        assert "motor 17" in text(ill["why"])
        ticks.when("a row after it", executes, after=ill)
        assert run.stop() == 0
        run.nothing_left()
        fake.settle()
        commands = fake.stream("rt/lowcmd")
        assert commands.commands > 100
        assert commands.largest_step_deg <= IGRIS_C_SLEW_DEG + SINGLE_PRECISION_DEG


def test_a_robot_that_is_lost_and_comes_back_is_held_and_driven_on_without_a_jump() -> None:
    with Fake() as fake, driving("dds", fake, *SLOWLY) as run:
        ticks = follow(run)
        ticks.when("the arm to be on its way", lambda tick: executes(tick) and strayed(tick))
        was_driven_within_the_limits(fake, ticks)
        fake.kill()
        lost = ticks.when("control to hold", lambda tick: int(tick["hold"]) == Hold.NO_STATE)
        assert f"/igris_b/{fake.robot_id}/" in text(lost["why"])
        ticks.when("it to be lost", lambda tick: tick["tick"] > lost["tick"] + 25)
        fake.start()  # at its initial pose, far from where it died
        ticks.when("control to go on", executes, after=lost)
        fake.when("it to be driven again", lambda report: report.commands > 40)
        was_driven_within_the_limits(fake, ticks)
        assert run.stop() == 0
        run.nothing_left()


def test_nothing_is_commanded_before_go_nor_after_the_robot_was_blocked() -> None:
    with Fake() as fake, driving("dds", fake, *SLOWLY, *TIGHTLY_FOLLOWED, gated=True) as run:
        until("the preview", lambda: "rt.command go" in run.output)
        ticks = follow(run)
        fake.settle()
        assert fake.report.commands == 0
        refused = run_module("rt.command", "pause", "--session", run.session)
        assert refused.returncode == 1
        assert "control is in phase WAITING: for rt.command go" in refused.stdout
        said = clock.now_ns()
        go(run)
        ticks.when("a row to be executed", executes)
        fake.settle()
        assert fake.stream("target_joints").t_first > said

        fake.fault("block 2")
        trip = ticks.when("the guard", lambda tick: int(tick["hold"]) == Hold.NOT_FOLLOWING)
        assert "deg from its command" in text(trip["why"])
        fake.when("the release", lambda report: not report.faults)
        ticks.when("control to wait", lambda tick: int(tick["phase"]) == Phase.WAITING)
        go(run)
        ticks.when("a row to be executed", executes)
        assert run.stop() == 0
        was_driven_within_the_limits(fake, ticks)


def go(run: Launched) -> None:
    assert run_module("rt.command", "go", "--session", run.session).returncode == 0
