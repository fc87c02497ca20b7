"""What goes on around a session: topics and cameras that stall or speak nonsense, a wall clock that
is set, a core that is taken away. One launch goes through all of it, at 200 Hz, while the robot
judges what it hears."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from launched import Launched, belongs, replaced
from numpy.typing import NDArray
from playing import Fake
from reliability import tell
from scale import Scale
from stamps import Stamps
from swinging import HERE, Swinging, check_holds, swinging
from tick_log import TickLog, executes
from wall_clock import WallClock, build, needs_compiler

from rt import clock
from rt.records import text

THIEF = HERE / "stand_ins" / "thief.py"
FLAGS = (
    *("--set", "ticks_per_row=10"),
    *("--set", "robot.max_state_age_ms=1000"),  # no robot waits for a busy machine, a fake one does
)
HOUR_S = 3600.0
STOLEN_MS = 50
SAME_CLOCK_NS = 200_000  # how exactly a stamp of the wall clock can be told in ours


class Surrounded(NamedTuple):
    """A session, and what is around it."""

    swing: Swinging
    stamps: Stamps  # of its commands
    launch_clock: WallClock
    robot_clock: WallClock

    @property
    def run(self) -> Launched:
        return self.swing.run

    @property
    def log(self) -> TickLog:
        return self.swing.log

    def goes_on(self, lasts_s: float = 1.0) -> Any:
        """The tick that executes a newer chunk, `lasts_s` from now or later."""
        now = self.log.last
        return self.log.when(
            "chunks to go on",
            lambda tick: (
                executes(tick)
                and tick["chunk"] > now["chunk"]
                and tick["t_due"] > now["t_due"] + lasts_s * 1e9
            ),
        )


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surrounded]:
    folder = tmp_path_factory.mktemp("surroundings")
    library = build(folder)
    launch_clock, robot_clock = (WallClock(library, folder / who) for who in ("launch", "robot"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in robot_clock.environment.items():
            patch.setenv(name, value)
        with Fake() as fake, Stamps(fake) as stamps:
            assert fake.process is not None
            robots = Path(f"/proc/{fake.process.pid}/maps").read_text()
            clock_file = robot_clock.environment.get("WALL_CLOCK", "")
            assert clock_file in robots, "the robot has its own clock"
            for name, value in launch_clock.environment.items():
                patch.setenv(name, value)
            with swinging("surrounded", fake, folder, *FLAGS, steady=False) as swing:
                yield Surrounded(swing, stamps, launch_clock, robot_clock)
                swing.end()


# --- topics and cameras


class Fault(NamedTuple):
    """What goes wrong with a sensor, for how long, and how control may hold then."""

    name: str
    holds: frozenset[str] = frozenset()  # besides those of a chunk that ran out
    why: str = ""  # of the hold, which must come then

    @property
    def of_camera(self) -> bool:
        return self.name.startswith("camera")


def silent(name: str, seconds: float, topic: str, why: str) -> Fault:
    return Fault(f"{name} {seconds} {topic}", frozenset({"NO_STATE"}), why)


FAULTS = (
    silent("stall", 1.5, "fingers", "nothing new on /igris_b/"),
    silent("nan", 1.5, "joints", "position is not finite"),
    Fault("camera SIGKILL"),
    silent("stall", 3, "joints", "nothing new on /igris_b/"),  # so long that it is lost
    silent("short", 1.5, "fingers", "11 values of data, not 12"),
    silent("long", 1.5, "joints", "13 values of position, not 12"),
    Fault("flood 0.5"),
    Fault("block 2"),
    Fault("camera SIGSTOP"),
    Fault("camera SIGTERM"),
)


def disturb_camera(session: Surrounded, number: signal.Signals, dice: random.Random) -> None:
    """Send the signal to a camera's process, and let a stopped one go on after a while."""
    camera = "camera." + dice.choice(session.log.config.params.camera_names)
    victim = session.run.pid(camera)
    assert belongs(victim, session.run.session)
    os.kill(victim, number)
    if number is signal.SIGSTOP:
        time.sleep(dice.uniform(0.1, 2))  # for how long it is stopped
        os.kill(victim, signal.SIGCONT)
        return

    def is_back(seen: dict[str, Any]) -> bool:
        session.log.look()  # 200 a second: their ring comes round in ten
        return replaced(seen, camera, victim, "running")

    session.run.when("a new camera process", is_back)


def suffer(session: Surrounded, fault: Fault, dice: random.Random) -> None:
    """Have the fault, and see that control holds if it must, says why, and goes on."""
    before = session.goes_on(0)
    if fault.of_camera:
        disturb_camera(session, signal.Signals[fault.name.split()[1]], dice)
    else:
        session.swing.fake.fault(fault.name)
    if fault.why:
        session.log.when(
            f"{fault.name} to be told",
            lambda tick: fault.why in text(tick["why"]),
            after=before,
        )
    session.swing.fake.when("the fault to end", lambda report: not report.faults)
    session.goes_on()
    held = check_holds(session.log.since(before), *fault.holds)
    assert "NO_STATE" in held or not fault.why, fault


def test_whatever_the_sensors_do_control_holds_says_why_and_goes_on(
    session: Surrounded, scale: Scale, dice: random.Random
) -> None:
    more = scale.kills // 60
    faults = [*FAULTS, *dice.choices(FAULTS, k=3 * (more - 1))] if more else list(FAULTS[:3])
    dice.shuffle(faults)
    begin = session.log.last
    for fault in faults:
        suffer(session, fault, dice)
    session.swing.check()
    ticks = session.log.since(begin)
    tried = Counter(fault.name.split(".")[0].split()[0] for fault in faults if not fault.of_camera)
    cameras = sum(fault.of_camera for fault in faults)
    tell(
        "sensors",
        "faults of topics and of the robot: "
        + ", ".join(f"{name} ({count})" for name, count in sorted(tried.items()))
        + f"; cameras killed, stopped or ended ({cameras})",
        f"{len(ticks)} ticks; whatever took the state away made control hold, and was named; "
        "chunks went on after each; steps and positions within the limits throughout",
    )


# --- the wall clock

LEASE_S = 11.0  # who says nothing for 10 s is taken for gone


def ahead_s(session: Surrounded) -> float:
    """How far the launch stamps its commands ahead of this process's wall clock."""
    return (session.stamps.when_more(20) - time.time_ns()) / 1e9


@needs_compiler
def test_a_wall_clock_that_is_set_changes_nothing(
    session: Surrounded, scale: Scale, dice: random.Random
) -> None:
    steps_s = [-HOUR_S, 0.0, HOUR_S]
    for _ in range(min(scale.kills // 30, 8)):
        steps_s += [0.0, dice.choice([HOUR_S, -HOUR_S, 30.0, -30.0])]
    steps_s.append(3 * HOUR_S)  # forward: what waits in the robot for one set back goes on
    begin = session.goes_on(0)
    lasts_s = LEASE_S if scale.soak_s else 0.5  # the first, at which both are set back
    for step_s in steps_s:
        session.launch_clock.set(step_s)
        assert ahead_s(session) == pytest.approx(step_s, abs=10), "it is set"
        session.goes_on(0.5)
        session.robot_clock.set(step_s)
        session.goes_on(lasts_s)
        heard, lasts_s = session.swing.commands, 0.5
        session.goes_on(0)
        assert session.swing.commands > heard, "the robot hears on"
    ticks = session.log.since(begin)
    check_holds(ticks)
    session.swing.check()
    assert int(ticks["robot_faults"][-1]) == int(begin["robot_faults"])
    age_ms = (ticks["t_done"] - ticks["t_state"]) / 1e6
    assert (age_ms >= 0).all()
    starved, chunks = int((ticks["hold"] > 0).sum()), int(np.ptp(ticks["chunk"]))
    tell(
        "machine",
        f"the wall clock set forward and back, mostly by an hour, {len(steps_s)} times in the "
        f"launch and {len(steps_s)} times in the robot",
        f"{len(ticks)} ticks, none held for want of a state, {starved} for want of a chunk; "
        f"{chunks} chunks; the state never looked older than {age_ms.max():.0f} ms",
    )


# --- a core that is taken away


@contextmanager
def thief(run: Launched) -> Iterator[Callable[[], None]]:
    """A call that takes control's core away once, for STOLEN_MS."""
    command = [sys.executable, "-u", str(THIEF), str(run.pid("control"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        read, write = process.stdout.readline, process.stdin

        def steal() -> None:
            write.write(f"{STOLEN_MS}\n")
            write.flush()
            assert read() == "done\n"

        assert read() in ("spins\n", "stops it\n")
        yield steal
        write.close()


def wall_offset_ns() -> int:
    """This machine's wall clock less CLOCK_MONOTONIC, from the quickest of many looks."""
    looks = [(clock.now_ns(), time.time_ns(), clock.now_ns()) for _ in range(1000)]
    before, wall, after = min(looks, key=lambda look: look[2] - look[0])
    return wall - (before + after) // 2


def commands_of_ticks(ticks: NDArray[Any], t_sent: NDArray[np.int64], period_ns: int) -> int:
    """See that each command, sent at `t_sent` ns, was sent within a tick of its own, and no three
    within one period. Returns how many there are of these ticks."""
    starts, ends = ticks["t_wake"] - SAME_CLOCK_NS, ticks["t_done"] + SAME_CLOCK_NS
    tick = -1
    sent = t_sent[(t_sent > ends[0]) & (t_sent < starts[-1])]
    for t in sent:
        tick = max(tick + 1, int(np.searchsorted(ends, t)))
        assert starts[tick] <= t, "a burst: more commands than ticks"
    assert (sent[2:] - sent[:-2] >= period_ns - SAME_CLOCK_NS).all(), "a burst: ticks caught up"
    return len(sent)


def test_a_core_that_is_taken_away_costs_ticks_and_never_makes_a_burst(
    session: Surrounded, scale: Scale, dice: random.Random
) -> None:
    session.launch_clock.set(-HOUR_S)  # and so it is still when the session ends
    begin = session.goes_on(0)
    skipped = []
    with thief(session.run) as steal:
        for _ in range(min(8 + scale.kills, 200)):
            time.sleep(dice.uniform(0.05, 0.4))  # until a random moment
            before = session.log.last
            steal()
            late = session.log.when("a tick", lambda tick: True, after=session.log.last)
            after = session.log.when("the one that skipped", lambda tick: True, after=late)
            skipped.append(int(after["overruns"] - before["overruns"]))
    ticks, period = session.log.since(begin), session.log.config.period_ns
    t_sent = session.stamps.sent + round(HOUR_S * 1e9) - wall_offset_ns()
    commands = commands_of_ticks(ticks, t_sent, period)
    session.swing.check()
    assert min(skipped) >= 1, "it was stolen from"
    # None is caught up.
    assert (ticks["t_due"][1:] >= ticks["t_done"][:-1]).all()
    tell(
        "machine",
        f"control's core taken away for {STOLEN_MS} ms at random moments, {len(skipped)} times, at "
        f"{1e9 / period:.0f} Hz",
        f"{min(skipped)} to {max(skipped)} ticks skipped each time (median "
        f"{np.median(skipped):.0f}), all counted; {commands} commands at the robot's side, each in "
        "a tick of its own and within one tick's step of the one before",
    )
