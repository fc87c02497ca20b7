"""A policy that misbehaves, while the robot judges what it hears: it is never told anything but
small steps within its limits, control ticks on and holds, and a policy that comes to itself is
obeyed again."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from launched import Launched, replaced, until
from playing import Fake
from reliability import tell
from scale import Scale
from stand_ins.misbehaving import HORIZON, HZ
from swinging import Swinging, check_holds, swinging
from tick_log import executes

from rt.launcher.children import RESTARTS

H_S = HORIZON / HZ
TIMEOUT_S = 8.0
DEATHS = 3  # of one inference process after the other: after five within a minute it is given up
FLAGS = (
    *("--set", f"params.inference_timeout_s={TIMEOUT_S}"),
    *("--set", "robot.max_state_age_ms=20000"),  # a fake robot without a core is no question here
)


class Fault(NamedTuple):
    """One way to misbehave, and what must come of it."""

    order: str  # as `stand_ins.misbehaving` takes it
    dropped: int = 0  # chunks
    told: str = ""  # in the process's status, while it lasts
    holds: bool = False  # it lasts for longer than a chunk
    dies: bool = False


def late(horizons: float) -> Fault:
    return Fault(f"late 2 {horizons * H_S}", holds=horizons > 1)


HARMLESS = (
    Fault("nan 30", dropped=30, told="a chunk that is not finite", holds=True),
    Fault("one_inf 2", dropped=2),
    Fault("short 30", dropped=30, told="a chunk of (15, 24)", holds=True),
    Fault("narrow 2", dropped=2),
    Fault("nothing 2", dropped=2),
    Fault("list 2", dropped=2),
    Fault("raise 1", dropped=1),
    Fault("raise 9", dropped=9),
    Fault("memory 1", dropped=1),
    Fault("gpu_memory 1", dropped=1),
    Fault("gpu_lost 1", dropped=1),
    Fault("absurd 3"),
    Fault("noise 5"),
    *map(late, (0, 0.5, 1, 2, 3)),
)
DEADLY = (
    Fault("raise 10", holds=True, dies=True),
    Fault("gpu_lost 10", holds=True, dies=True),
    Fault("killed 1", holds=True, dies=True),
    Fault("exit 1", holds=True, dies=True),
    Fault("hang 1", holds=True, dies=True),
)
TELLING = (
    Fault("nan 30", dropped=30, told="a chunk that is not finite", holds=True),
    Fault("short 2", dropped=2),
    Fault("memory 1", dropped=1),
    Fault("gpu_memory 1", dropped=1),
    Fault("noise 5"),
    *map(late, (0.5, 1, 3)),
    Fault("gpu_lost 10", holds=True, dies=True),
)


def go_through(swing: Swinging, fault: Fault) -> float:
    """Have the fault, and see that what must come of it does, and that it is over. Returns how many
    seconds it took from there to a row of a new chunk."""
    run, log = swing.run, swing.log
    before = log.when("a row to be executed", executes)
    dropped, dead, commands = of_inference(run)["dropped"], run.pid("inference"), swing.commands
    swing.order(fault.order)
    if fault.told:
        run.when(
            "it to be told",
            lambda s: any(fault.told in p.get("detail", "") for p in s["processes"]),
        )
    until(f"{fault.order} to be over", lambda: swing.obeyed)
    began, obeyed = time.monotonic(), log.last
    if fault.dies:
        run.when("a new inference process", lambda s: replaced(s, "inference", dead, "ready"))
    newest = of_inference(run)["published"]
    log.when(
        "a row of a newer chunk",
        lambda tick: executes(tick) and tick["chunk"] >= newest,
        after=obeyed,
    )
    back_s = time.monotonic() - began
    if not fault.dies:
        assert run.pid("inference") == dead, (fault, run.output)
        assert of_inference(run)["dropped"] - dropped == fault.dropped, fault
    held = check_holds(log.since(before))
    assert held or not fault.holds, fault
    assert swing.commands > commands, "holds are sent, too"
    swing.check()
    return back_s


def of_inference(run: Launched) -> dict[str, int]:
    """Its counters."""
    seen = run.inspect()
    assert seen
    counters: dict[str, int] = seen["inference"]
    return counters


def drawn(dice: random.Random, sessions: int) -> list[list[Fault]]:
    """Each session's, in any order: all harmless faults, or ten where there is but one session, and
    as many deaths as it may have; of two sessions' deaths there is each."""
    deaths = dice.sample(DEADLY, len(DEADLY))
    harmless = len(HARMLESS) if sessions > 1 else 10
    stories = []
    for n in range(sessions):
        faults = [*dice.sample(HARMLESS, harmless), *deaths[n * DEATHS : (n + 1) * DEATHS]]
        stories.append(dice.sample(faults, len(faults)))
    return stories


def test_whatever_a_policy_does_the_robot_is_told_small_steps_within_its_limits(
    tmp_path: Path, scale: Scale, dice: random.Random
) -> None:
    stories = drawn(dice, min(scale.kills // 60, 2)) or [list(TELLING)]
    tried: Counter[str] = Counter()
    back_s: list[float] = []
    commands = ticks = overruns = 0
    for faults in stories:
        with Fake() as fake, swinging("misbehaves", fake, tmp_path, *FLAGS) as swing:
            for fault in faults:
                seconds = go_through(swing, fault)
                back_s += [seconds] * fault.dies
                tried[fault.order.split()[0]] += 1
            swing.end()
            commands += swing.commands
            ticks += len(swing.log.ticks)
            overruns += int(swing.log.last["overruns"])
            assert not swing.log.ticks["not_finite"].any()
    if scale.kills >= 60:  # a busy machine, without SCHED_FIFO, may keep control from its core
        assert overruns <= 0.01 * ticks
    tell(
        "inference",
        "a policy that misbehaves, so many times (late: by up to 3 H): "
        + ", ".join(f"{name} {count}" for name, count in sorted(tried.items())),
        f"{commands} commands at the robot's side, all within one slew step and the position "
        f"limits; {ticks} ticks, {overruns} skipped; held when the chunk ran out; from what ends "
        f"the process to a row of its successor's {np.median(back_s):.1f} s (median; "
        f"{max(back_s):.1f} s at most; one that hangs is given {TIMEOUT_S:g} s)",
    )


def test_a_policy_that_is_broken_for_good_ends_the_session_in_order(
    tmp_path: Path, scale: Scale
) -> None:
    if scale.kills < 60:
        pytest.skip("half a minute of restarts: --scale bounded")
    with Fake() as fake, swinging("misbehaves", fake, tmp_path, *FLAGS) as swing:
        run = swing.run
        swing.order("gpu_lost 100000")
        assert run.wait() == 1, run.output
        run.nothing_left()
        swing.check()
        assert "AcceleratorError: CUDA error" in run.output
        assert f"restarted ({RESTARTS} of {RESTARTS})" in run.output
        assert not executes(swing.log.last)
        assert "Traceback" not in run.output.split("inference: AcceleratorError")[-1]
        commands = swing.commands
    tell(
        "inference",
        "a GPU that is lost for good: every chunk raises",
        f"{RESTARTS} restarts, then the session ends with the error's words; {commands} commands",
    )
