"""The operator's gate, the preview, the warm-up of an episode, and the words for a hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from making import MakeRing, Simulate

from rt.config import JointGroup
from rt.launcher.console import status_line
from rt.launcher.preview import Preview
from rt.records import Answer, Hold, Order, Phase, text, tick_dtype
from rt.statistics import TickStatistics
from rt.testing import WIDE_OPEN, FakeClock, FakeRobot, SimulatedRun, config

ARM = JointGroup(
    name="arm", lower_deg=(-90, -90), upper_deg=(90, 90), initial_deg=(10, -30), max_delta_deg=3
)


@pytest.fixture
def gated(simulate: Simulate) -> SimulatedRun:
    """A real robot before its `go`, a first chunk under way."""
    clock = FakeClock()
    robot = FakeRobot([0.0, 0.0], clock=clock)
    run: SimulatedRun = simulate(config((ARM,), io="dds"), robot=robot, clock=clock)
    return run


def ordered(run: SimulatedRun, order: Order) -> Answer:
    index = run.order(order)
    record = run.tick()
    assert record["command_index"] == index
    return Answer(int(record["command_answer"]))


# The gate.


def test_a_real_robot_stands_still_until_go(gated: SimulatedRun) -> None:
    gated.tick(200)
    assert gated.robot.sent == []
    assert {int(r["phase"]) for r in gated.ticks} == {Phase.WAITING}
    assert {int(r["hold"]) for r in gated.ticks} == {Hold.WAITING}
    assert gated.ticks[-1]["holds"] == 0, "what was wanted is not counted"
    assert ordered(gated, Order.GO) is Answer.DONE
    assert gated.ticks[-1]["phase"] == Phase.INITIAL_POSE
    gated.tick(40)
    assert gated.ticks[-1]["hold"] == Hold.NONE
    assert gated.ticks[-1]["phase"] == Phase.RUN


@pytest.mark.parametrize("options", [{"io": "sim"}, {"io": "dds", "yes": True}])
def test_a_simulated_robot_and_one_with_yes_wait_for_nobody(
    simulate: Simulate, options: dict[str, Any]
) -> None:
    run = simulate(config((ARM,), **options))
    assert run.tick()["phase"] == Phase.INITIAL_POSE
    assert len(run.robot.sent) == 1
    assert ordered(run, Order.GO) is Answer.REFUSED


def test_chunks_are_computed_while_it_waits_and_void_afterwards(gated: SimulatedRun) -> None:
    gated.tick(30)
    assert len(gated.chunks) > 3
    assert all(chunk["cold"] for chunk in gated.chunks)
    ordered(gated, Order.GO)
    went = int(gated.ticks[-1]["tick"])
    gated.tick(40)
    used = {int(r["chunk"]) for r in gated.ticks if r["row"] >= 0}
    assert used
    assert all(gated.chunks[i]["obs_tick"] > went for i in used)


def test_go_is_refused_before_there_is_a_chunk_to_look_at(gated: SimulatedRun) -> None:
    gated.tick()
    assert ordered(gated, Order.GO) is Answer.REFUSED
    assert text(gated.ticks[-1]["why"]) == "for the first chunk"
    gated.tick(5)
    assert text(gated.ticks[-1]["why"]) == "for rt.command go"
    assert ordered(gated, Order.GO) is Answer.DONE


@pytest.mark.parametrize(
    "wrong", [{"reading": "none"}, {"fault": "motor 3: over-current"}, {"position": 3.0}]
)
def test_go_is_refused_while_something_is_wrong(gated: SimulatedRun, wrong: dict[str, Any]) -> None:
    gated.tick(10)
    if "position" in wrong:
        gated.robot.position[:] = wrong["position"]
    else:
        vars(gated.robot).update(wrong)
    gated.tick()
    assert gated.ticks[-1]["hold"] in (Hold.NO_STATE, Hold.ROBOT_FAULT, Hold.OUT_OF_LIMITS)
    assert ordered(gated, Order.GO) is Answer.REFUSED
    gated.robot.reading, gated.robot.fault = "fresh", ""
    gated.robot.position[:] = 0.0
    gated.tick(20)
    assert gated.robot.sent == [], "it does not move by itself once that is over"


def running(gated: SimulatedRun) -> SimulatedRun:
    gated.tick(10)
    ordered(gated, Order.GO)
    while gated.tick()["row"] < 0:
        assert len(gated.ticks) < 200
    return gated


@pytest.mark.parametrize(
    ("wrong", "ticks"), [({"fault": "motor 3: over-current"}, 2), ({"reading": "none"}, 22)]
)
def test_after_a_fault_or_a_long_silence_it_asks_again(
    gated: SimulatedRun, wrong: dict[str, Any], ticks: int
) -> None:
    run = running(gated)
    vars(run.robot).update(wrong)
    run.tick(ticks)
    why = text(run.ticks[-1]["why"])
    run.robot.reading, run.robot.fault = "fresh", ""
    before = run.ticks[-1]["command"].copy()
    run.tick(60)
    assert run.ticks[-1]["phase"] == Phase.WAITING
    assert text(run.ticks[-1]["why"]) == f"for rt.command go, since {why}"
    np.testing.assert_array_equal(run.ticks[-1]["command"], before)
    assert ordered(run, Order.GO) is Answer.DONE
    run.tick(20)
    assert run.ticks[-1]["row"] > 0


def restarted(run: SimulatedRun, silent_ticks: int, pose_rad: float) -> SimulatedRun:
    """The robot falls silent, and comes back at another pose, which it keeps until told else."""
    run.robot.reading = "none"
    run.tick(silent_ticks)
    run.robot.reading = "fresh"
    run.robot.share = 0.0
    run.robot.position[:] = pose_rad
    return run


def test_a_robot_that_was_lost_is_held_where_it_is_found(gated: SimulatedRun) -> None:
    run = restarted(running(gated), 25, 0.2)
    before = len(run.robot.sent)
    run.tick(20)
    since = run.robot.sent[before:]
    assert since
    assert not since[0].held, "the driver would repeat what it was told before"
    assert all((sent.command == 0.2).all() for sent in since)
    assert run.ticks[-1]["hold"] == Hold.WAITING
    run.robot.share = 1.0
    ordered(run, Order.GO)
    step = run.config.max_delta_rad_per_tick
    assert (np.abs(run.robot.sent[-1].command - 0.2) <= step).all()


def test_a_robot_that_comes_back_faulty_is_held_where_it_is_found(
    gated: SimulatedRun,
) -> None:
    run = restarted(running(gated), 25, 0.2)
    run.robot.fault = "it has a twin"
    before = len(run.robot.sent)
    run.tick(5)
    run.robot.fault = ""
    run.tick(20)
    since = run.robot.sent[before:]
    assert not since[0].held, "the driver would repeat what it was told before"
    assert all((sent.command == 0.2).all() for sent in since)


def test_a_robot_that_sags_through_a_long_fault_is_held_where_it_was_told_to_be(
    gated: SimulatedRun,
) -> None:
    """Only what was not measured at all is found again: else its weight would lead the way."""
    run = running(gated)
    before = len(run.robot.sent)
    run.robot.fault, run.robot.share = "motor 3: over-current", 0.0
    for _ in range(40):
        run.robot.position[:] -= 0.001
        run.tick()
    since = np.array([sent.command for sent in run.robot.sent[before:]])
    assert len(since) >= 40
    assert (since == since[-1]).all()


def test_a_robot_that_was_lost_while_it_yielded_is_not_moved_to_where_it_yielded(
    simulate: Simulate,
) -> None:
    clock = FakeClock()
    watched = JointGroup(
        name="arm", lower_deg=(-90, -90), upper_deg=(90, 90), max_following_error_deg=10
    )
    robot = FakeRobot([0.0, 0.0], clock=clock)
    run = running(simulate(config((watched,), io="dds"), robot=robot, clock=clock))
    robot.share = 0.0
    robot.position[:] = 0.5
    run.tick(3)
    assert run.ticks[-1]["hold"] == Hold.NOT_FOLLOWING
    restarted(run, 25, 0.6)
    before = len(robot.sent)
    run.tick(20)
    assert all((sent.command == 0.6).all() for sent in robot.sent[before:])


def test_a_robot_with_a_fault_is_yielded_to_like_any_other(simulate: Simulate) -> None:
    clock = FakeClock()
    watched = JointGroup(
        name="arm", lower_deg=(-90, -90), upper_deg=(90, 90), max_following_error_deg=10
    )
    robot = FakeRobot([0.0, 0.0], clock=clock)
    run = running(simulate(config((watched,), io="dds"), robot=robot, clock=clock))
    robot.share, robot.fault = 0.0, "motor 3: over-current"
    robot.position[:] = 1.0  # it sinks, or somebody moves it
    run.tick(40)
    assert run.ticks[-1]["hold"] == Hold.ROBOT_FAULT
    assert text(run.ticks[-1]["why"]) == "motor 3: over-current"
    assert (robot.sent[-1].command == 1.0).all(), "once it is well it would jump back"


def test_a_robot_that_comes_back_while_the_session_ends_is_held_where_it_is(
    gated: SimulatedRun,
) -> None:
    run = restarted(running(gated), 60, 0.9)
    before = len(run.robot.sent)
    run.loop.stopping = True
    run.tick(3)
    assert all((sent.command == 0.9).all() for sent in run.robot.sent[before:])


@pytest.mark.parametrize("silent_ticks", range(18, 25))
def test_whoever_was_lost_is_asked_for(gated: SimulatedRun, silent_ticks: int) -> None:
    run = restarted(running(gated), silent_ticks, 0.9)
    before = len(run.robot.sent)
    run.tick(5)
    found = (run.robot.sent[before].command == 0.9).all()
    assert found == (silent_ticks > 20)
    assert found == (run.ticks[-1]["phase"] == Phase.WAITING)


def test_a_fault_during_a_pause_leaves_nobody_unasked_later(gated: SimulatedRun) -> None:
    run = running(gated)
    ordered(run, Order.PAUSE)
    run.robot.fault = "motor 3: over-current"
    run.tick()
    run.robot.fault = ""
    ordered(run, Order.RESUME)
    run.tick(10)
    restarted(run, 21, 0.9)
    run.tick(5)
    assert run.ticks[-1]["phase"] == Phase.WAITING


def test_a_robot_that_is_found_outside_its_limits_is_left_alone_until_go(
    gated: SimulatedRun,
) -> None:
    run = restarted(running(gated), 25, np.deg2rad(91.5))
    before = len(run.robot.sent)
    run.tick(20)
    assert len(run.robot.sent) == before
    assert run.ticks[-1]["hold"] == Hold.WAITING


def test_a_plan_that_takes_longer_than_a_robot_may_be_silent_is_executed(
    simulate: Simulate,
) -> None:
    run = simulate(config(algorithm="sequential"), delay=lambda n: 35.0)
    run.tick(60)
    assert any(record["row"] >= 0 for record in run.ticks)


def test_a_robot_that_was_lost_and_found_at_no_pose_of_its_own_is_not_commanded(
    gated: SimulatedRun,
) -> None:
    run = restarted(running(gated), 25, 3.0)
    before = len(run.robot.sent)
    run.tick(20)
    assert len(run.robot.sent) == before
    assert run.ticks[-1]["hold"] == Hold.OUT_OF_LIMITS


def test_a_robot_that_was_silent_for_less_is_where_it_was_commanded(gated: SimulatedRun) -> None:
    run = running(gated)
    before = run.robot.sent[-1].command
    restarted(run, 15, 0.0)
    run.tick()
    step = run.config.max_delta_rad_per_tick
    assert (np.abs(run.robot.sent[-1].command - before) <= step).all()


def test_after_a_short_silence_it_goes_on(gated: SimulatedRun) -> None:
    run = running(gated)
    run.robot.reading = "none"
    run.tick(15)
    run.robot.reading = "fresh"
    assert run.tick()["phase"] == Phase.RUN


def test_stop_and_a_prompt_are_taken_while_it_waits(gated: SimulatedRun) -> None:
    for order in (Order.PAUSE, Order.RESUME, Order.NEXT_EPISODE, Order.SUCCESS):
        assert ordered(gated, order) is Answer.REFUSED
    assert ordered(gated, Order.PROMPT) is Answer.DONE
    assert ordered(gated, Order.STOP) is Answer.DONE
    assert gated.ticks[-1]["phase"] == Phase.STOPPED
    assert gated.robot.sent == []


def test_it_starts_from_where_it_is_when_go_comes_however_long_that_took(
    gated: SimulatedRun,
) -> None:
    gated.tick(10)
    gated.robot.position[:] = 0.5  # moved by hand meanwhile
    gated.tick()
    ordered(gated, Order.GO)
    step = gated.config.initial_delta_rad_per_tick
    assert (np.abs(gated.robot.sent[0].command - 0.5) <= step).all()


@pytest.mark.parametrize("io", ["sim", "dds"])
def test_a_dry_run_waits_for_nobody_and_sends_nothing(simulate: Simulate, io: str) -> None:
    run: SimulatedRun = simulate(config((ARM,), io=io, dry_run=True, warmup_ticks=3))
    run.robot.raising = {"publish_action", "hold"}  # would be counted
    run.tick(10)
    assert run.ticks[-1]["phase"] == Phase.RUN
    for order in (Order.PAUSE, Order.RESUME, Order.NEXT_EPISODE):
        run.tick(30)
        assert ordered(run, order) is Answer.DONE
    run.robot.position[:] = 1.0
    run.tick(30)
    run.robot.fault = "motor 3"
    run.tick(3)
    run.loop.stopping = True
    run.tick()
    assert run.robot.sent == []
    assert run.ticks[-1]["robot_faults"] == 0


# What the operator is shown.


def test_the_preview_tells_once_what_the_first_chunk_would_do(gated: SimulatedRun) -> None:
    preview = Preview(gated.config)
    assert preview.lines(None, None) == []
    assert preview.lines(gated.tick(), None) == []
    gated.tick(10)
    chunk = gated.chunks[0]
    chunk["actions"][:] = np.deg2rad(5)
    chunk["actions"][3:, 1] += np.deg2rad(7)
    lines = preview.lines(gated.ticks[-1], chunk)
    words = "\n".join(lines)
    assert "initial pose   30.0 deg (arm[1]) away, reached in about 1.0 s" in words
    assert "largest step 7.0 deg (arm[1]) a row" in words
    assert "its first row is 5.0 deg (arm[0])" in words
    assert f"python -m rt.command go --session {gated.config.run.session}" in words
    assert preview.lines(gated.ticks[-1], chunk) == [], "once"


def test_a_run_that_waits_for_nobody_has_no_preview(simulate: Simulate) -> None:
    run = simulate(config((ARM,)))
    run.tick(30)
    assert Preview(run.config).lines(run.ticks[-1], run.chunks[0]) == []


def test_the_status_line_says_why_it_holds(gated: SimulatedRun, make_ring: MakeRing) -> None:
    ring = make_ring(tick_dtype(2, 2), slots=128)
    statistics = TickStatistics(ring)
    gated.tick()
    gated.robot.fault = "motor 3: over-current"
    ring.write(gated.tick())
    statistics.update()
    assert status_line(statistics, None, 0, "").endswith("hold robot_fault: motor 3: over-current")
    gated.robot.fault = ""
    ring.write(gated.tick(9))
    statistics.update()
    assert status_line(statistics, None, 0, "").endswith("hold waiting: for rt.command go")


# Words for a hold.


def test_a_fault_that_the_robot_tells_of_is_held_and_shown(simulate: Simulate) -> None:
    run = simulate(config(), delay=lambda n: 1.5)
    run.tick(12)
    run.robot.fault = "motor 3: over-current, " + "ä" * 200
    record = run.tick()
    assert record["hold"] == Hold.ROBOT_FAULT
    assert text(record["why"]).startswith("motor 3: over-current")
    assert run.robot.sent[-1].held
    assert record["holds"] == run.ticks[-2]["holds"] + 1
    run.robot.fault = ""
    assert text(run.tick()["why"]) == ""
    assert run.ticks[-1]["hold"] == Hold.NONE


def test_a_missing_state_is_explained_by_the_driver_and_a_driver_by_its_error(
    simulate: Simulate,
) -> None:
    run = simulate(config(), delay=lambda n: 1.5)
    run.robot.reading = "none"
    assert text(run.tick()["why"]) == "the fake robot was told to be silent"
    run.robot.reading = "raise"
    assert text(run.tick()["why"]) == "RobotError: the fake robot was told to fail in read_state"
    run.robot.reading = "nan"
    assert text(run.tick()["why"]) == "the measured state is not finite"


def test_a_driver_that_cannot_say_where_episodes_begin_is_held(simulate: Simulate) -> None:
    run = simulate(config((ARM,)))
    run.robot.raising = {"init_robot_position"}
    run.tick(3)
    assert run.ticks[-1]["hold"] == Hold.ROBOT_FAULT
    assert run.ticks[-1]["robot_faults"] == 3
    assert run.robot.sent == []
    run.robot.raising = set()
    run.robot.initial = np.zeros(5)
    run.tick()
    assert "ValueError" in text(run.ticks[-1]["why"]), "nor a pose of another shape"
    run.robot.initial = np.array([0.2, np.nan])
    run.tick(3)
    assert run.ticks[-1]["phase"] == Phase.INITIAL_POSE
    run.robot.initial = np.array([-0.2, -0.2])
    run.tick(20)
    moving = [r for r in run.ticks if r["phase"] == Phase.INITIAL_POSE]
    np.testing.assert_array_equal(moving[-1]["command"], [0.2, 0.0], "asked once an episode")


# The warm-up of an episode.


@pytest.mark.parametrize("ticks_per_row", [1, 3])
def test_an_episodes_first_rows_are_computed_and_not_sent(
    simulate: Simulate, ticks_per_row: int
) -> None:
    options: dict[str, Any] = {"ticks_per_row": ticks_per_row, "warmup_ticks": 10}
    run: SimulatedRun = simulate(config((WIDE_OPEN,), episode_ticks=40, **options))
    while run.tick()["episodes"] < 2:
        assert len(run.ticks) < 1000
    for episode in (1, 2):
        ticks = [r for r in run.ticks if r["episode"] == episode and r["phase"] == Phase.RUN]
        assert len(ticks) == 40 * ticks_per_row, "they are part of its length"
        warm = [r for r in ticks if r["hold"] == Hold.WARMUP]
        assert warm == ticks[: 10 * ticks_per_row]
        assert {float(r["row"]) for r in warm} == {-1.0}
        after = int(warm[-1]["tick"]) + 1
        computed = [c for c in run.chunks if c["episode"] == episode and c["obs_tick"] < after]
        assert len(computed) > 1
        used = {int(r["chunk"]) for r in ticks if r["row"] >= 0}
        assert used
        assert min(int(run.chunks[i]["obs_tick"]) for i in used) >= after, "it starts cold"
    assert not any(s.command.max() > 500 and not s.held for s in run.robot.sent[:5])
    assert run.ticks[-1]["holds"] == sum(
        int(r["hold"]) not in (Hold.NONE, Hold.WARMUP) for r in run.ticks
    )


def test_a_pause_lengthens_the_warm_up_by_itself(simulate: Simulate) -> None:
    run: SimulatedRun = simulate(config(warmup_ticks=20))
    while run.tick()["phase"] != Phase.RUN:
        pass
    run.tick(5)
    ordered(run, Order.PAUSE)
    run.tick(50)
    ordered(run, Order.RESUME)
    run.tick(40)
    assert sum(r["hold"] == Hold.WARMUP for r in run.ticks) == 20


def test_sequential_mode_previews_and_warms_up_a_period_at_a_time(simulate: Simulate) -> None:
    run: SimulatedRun = simulate(config(warmup_ticks=12, io="dds", algorithm="sequential"))
    run.tick(13)
    assert 2 <= len(run.chunks) <= 4, "the rows of a chunk pass before the next is planned"
    waited = len(run.chunks)
    ordered(run, Order.GO)
    run.tick(18)
    assert len(run.chunks) - waited <= 6
    run.tick(20)
    assert run.ticks[-1]["row"] >= 0
