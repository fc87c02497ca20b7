"""Processes killed, stopped and ended at random moments; beside them a session left alone.

What control did is read from its tick records, and what it commanded from the robot's side.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from bystander import Bystander, Look
from driven import Driven
from reliability import tell
from revival import STAGES, Revival
from scale import Scale
from siege import Siege, blows
from strays import slews_deg
from tick_log import holds

LIMIT_S = 6.0  # from a killed inference to the next chunk, on the machine of the figures
SETTLED_S = 300.0  # before memory is compared
HASTE = 0.25  # of the blows come before the one before has been recovered from
MAX_GROWTH_KB = 1000
TOPICS = ("target_joints", "finger_target")  # of the arms and of the hands
# Why a session that nobody touches may hold: its inference, its cameras and its fake robot share a
# core with those that are started anew beside it. A robot that lacks one lags: control yields.
WITHOUT_A_CORE = {"NO_CHUNK", "NOT_DUE", "EXPIRED", "NO_STATE", "NOT_FOLLOWING"}


@pytest.fixture(scope="module")
def bystander(scale: Scale) -> Iterator[Bystander | None]:
    """A session that nobody touches, where a soak is asked for."""
    if not scale.soak_s:
        yield None
        return
    with Driven("bystander") as driven:
        yield Bystander(driven)
        assert driven.run.stop() == 0
        driven.run.nothing_left()


def test_whatever_dies_the_robot_is_never_commanded_further_than_the_limits(
    scale: Scale, dice: random.Random, bystander: Bystander | None
) -> None:
    with Driven("kills") as driven:
        siege = Siege(driven, dice)
        siege.begin()
        for number, blow in zip(range(scale.kills), blows(dice), strict=False):
            last = number == scale.kills - 1
            time.sleep(dice.uniform(0.0, 0.5))
            siege.strike(blow, patient=last or dice.random() > HASTE)
            if bystander:
                bystander.look()
            assert siege.wrong() == [], blow
        assert driven.run.stop() == 0, driven.run.output
        driven.run.nothing_left()
        assert siege.wrong() == []
        tell_of(siege, driven)


def tell_of(siege: Siege, driven: Driven) -> None:
    """The rows of the page."""
    struck = siege.struck
    tell(
        "kills",
        f"{struck.total()} signals at random moments ({struck['SIGKILL']} SIGKILL, "
        f"{struck['SIGTERM']} SIGTERM, {struck['SIGSTOP']} SIGSTOP for 50 ms to 3 s) to the "
        "supervisor, control, inference, each of three cameras and the robot (a fake one)",
        f"{siege.ticks} ticks, none of which contradicts docs/architecture.md: no step over the "
        "slew limit, every hold for its reason, no row too late, all due on one grid. "
        + of_holds(siege.holds),
    )
    heard, config = driven.heard(), driven.log.config
    slews = slews_deg(config)
    arms, hands = ([s for topic, s in heard if topic.endswith(name)] for name in TOPICS)
    arm_deg, hand_deg = (slews[topic] for name in TOPICS for topic in slews if topic.endswith(name))
    three_ms = min(s.three_within_ms for s in arms + hands if s.three_within_ms)
    tell(
        "kills",
        "meanwhile, what the robot heard",
        f"{sum(s.commands for s in arms)} commands; the largest step of an arm "
        f"{max(s.largest_step_deg for s in arms):.4f} deg (limit {arm_deg:g}), "
        f"of a hand {max(s.largest_step_deg for s in hands):.4f} "
        f"({hand_deg:g}); from the measured pose to a first command "
        f"{max(s.first_step_deg for s in arms + hands):.4f}, after a second of silence "
        f"{max(s.resumed_step_deg for s in arms + hands):.4f}; none beyond the position limits; "
        f"never three within less than {three_ms:.1f} ms (period {config.period_ns / 1e6:g})",
    )
    tell(
        "kills",
        f"the session ended by it, or to be started afresh, {len(siege.starts_s) - 1} times",
        "exit code 0 after SIGTERM, 1 otherwise but for a killed supervisor; nothing commanded "
        "afterwards, no process left, no segment left but by a killed supervisor, and "
        "those the next start removed; that start "
        f"executed a row after {spread(siege.starts_s)}",
    )
    revivals = siege.revivals
    if revivals:
        tried = f"inference killed or ended, and waited for, {len(revivals)} times"
        tell("kills", tried, revived(revivals))


def of_holds(holds: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in holds.most_common())


def revived(revivals: list[Revival]) -> str:
    """How long until its first chunk, and where the time went."""
    at_once = [r.total_s for r in revivals if r.in_an_episode]
    split = ", ".join(
        f"{stage} {np.median([r.seconds[stage] for r in revivals]):.2f}" for stage in STAGES
    )
    over = sum(total > LIMIT_S for total in at_once)
    ready = [r.total_s - r.seconds["first chunk"] for r in revivals]
    found = f"ready again after {spread(ready)}"
    if at_once:
        found += (
            f"; {len(at_once)} times in an episode: the first new chunk after {spread(at_once)}, "
            f"{over} times over {LIMIT_S:g} s"
        )
    return f"{found}; median seconds of {split}"


def spread(seconds: list[float]) -> str:
    return f"{np.median(seconds):.1f} s in the median, {max(seconds):.1f} s at most"


def test_a_session_left_alone_keeps_its_memory_files_and_time(
    scale: Scale, bystander: Bystander | None
) -> None:
    if bystander is None:
        pytest.skip("no soak at this scale")
    bystander.watch(scale.soak_s)
    settled = bystander.after(min(SETTLED_S, bystander.seconds / 4))
    quarter = len(settled) // 4
    early, late = settled[:quarter], settled[-quarter:]
    grown_kb = {name: memory_kb(late, name) - memory_kb(early, name) for name in late[0].memory_kb}
    files = [
        {n: min(look.files[n] for look in part) for n in early[0].files} for part in (early, late)
    ]
    wake_us = [float(np.median([look.wake_us for look in part])) for part in (early, late)]
    log, last = bystander.driven.log, bystander.looks[-1]
    ticks, held = log.statistics, holds(log.ticks)
    others_kb = {name: kb for name, kb in grown_kb.items() if name != "control"}
    most = max(others_kb, key=lambda name: others_kb[name])

    assert bystander.driven.judge.wrong + bystander.driven.strays() == []
    assert grown_kb["control"] < MAX_GROWTH_KB
    assert files[0] == files[1]
    assert {(look.segments, look.shm_bytes) for look in settled} == {
        (last.segments, last.shm_bytes)
    }
    assert wake_us[1] < 2 * wake_us[0] + 100
    assert set(held) <= WITHOUT_A_CORE, held
    tell(
        "soak",
        f"a session of its own for {last.t_s / 60:.0f} min, beside the kills: "
        f"{ticks.work.count} ticks",
        f"control's memory grew by {grown_kb['control']:.0f} kB (of "
        f"{memory_kb(early, 'control') / 1e3:.0f} MB, locked, so that it grows by 1 MiB at a time) "
        f"from the first quarter of the last {(last.t_s - early[0].t_s) / 60:.0f} min to their "
        f"last, of all others most {most}'s, by "
        f"{others_kb[most]:.0f}; open files by "
        f"{sum(files[1].values()) - sum(files[0].values())}, /dev/shm by "
        f"{last.shm_bytes - early[0].shm_bytes} bytes; drift 0 ns; wake error "
        f"{wake_us[0]:.0f} us in the median of the first quarter, {wake_us[1]:.0f} in the last's, "
        f"{ticks.wake_error.summary()['max']:.0f} at most; {int(ticks.last['overruns'])} "
        f"overruns; ticks held: {of_holds(held)}",
    )


def memory_kb(looks: list[Look], name: str) -> float:
    """Of a process, in the median."""
    return float(np.median([look.memory_kb[name] for look in looks]))
