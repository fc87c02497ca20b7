"""Whatever chunks, faults, orders and configurations come together: what is sent is limited."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rt.config import Config, JointGroup
from rt.records import Answer, Hold, Order, Phase
from rt.testing import FakeClock, FakeRobot, ScriptedPolicy, SimulatedRun, config

HORIZON = 8
JOINTS = 4
EXAMPLES = 300
READINGS = ("fresh", "fresh", "fresh", "none", "stale", "nan", "raise")
START = (0.3, 0.1, -0.2, 0.0)  # rad
ORDERS = [Order.GO] * 3 + [order for order in Order if order is not Order.STOP]
METHODS = ("publish_action", "hold", "init_robot_position", "succeeded", "prepare_episode")
ROWS = ("smooth", "smooth", "jump", "huge", "nan", "inf", "short")
bounded = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Event(NamedTuple):
    """What happens before some ticks, and how many they are."""

    kind: str
    value: Any = None
    ticks: int = 1


# Most stories are to get somewhere: the first chunk, `go` for those who wait for it, an episode.
LET_GO = [Event("ticks", None, 15), Event("order", Order.GO, 40)]
BEGINNINGS: tuple[list[Event], ...] = (
    [],
    LET_GO,
    [Event("raise", "init_robot_position", 3), *LET_GO],
)


def events() -> st.SearchStrategy[Event]:
    some = st.integers(1, 12)
    return st.one_of(
        st.builds(Event, st.just("read"), st.sampled_from(READINGS), st.integers(20, 80)),
        st.builds(Event, st.just("ticks"), st.none(), st.integers(5, 40)),
        st.builds(Event, st.just("read"), st.sampled_from(READINGS), some),
        st.builds(Event, st.just("raise"), st.sampled_from(METHODS), some),
        st.builds(Event, st.just("halfway"), st.none(), some),
        st.builds(Event, st.just("order"), st.sampled_from(ORDERS), some),
        st.builds(Event, st.just("fault"), st.sampled_from(("", "motor 3: over-current")), some),
        st.builds(Event, st.just("share"), st.sampled_from((0.0, 0.1, 1.0)), some),
        st.builds(Event, st.just("teleport"), st.floats(-1.4, 1.4), some),
        st.builds(Event, st.just("late"), st.floats(1, 4), some),
        st.builds(Event, st.just("restart"), st.none(), some),
    )


def configs() -> st.SearchStrategy[Config]:
    def build(
        delta: float,
        speed: float | None,
        accelerations: tuple[float | None, float | None],
        error: float | None,
        **options: Any,
    ) -> Config:
        arm = JointGroup(
            name="arm",
            initial_deg=(10, -20),
            max_speed_deg_s=speed,
            max_acceleration_deg_s2=accelerations[0],
            max_following_error_deg=error,
            lower_deg=(-90, -80),
            upper_deg=(90, 80),
        )
        hand = JointGroup(
            name="hand",
            max_delta_deg=10,
            max_acceleration_deg_s2=accelerations[1],
            max_following_error_deg=None if error is None else 2 * error,
            lower_deg=(-90, -80),
            upper_deg=(90, 80),
        )
        return config((arm, hand), max_delta_deg=delta, following_release_s=0.2, **options)

    a_bound = st.sampled_from((None, 5.0, 200.0, 3000.0))
    return st.builds(
        build,
        delta=st.floats(0.01, 40),
        speed=st.sampled_from((None, 30.0)),
        accelerations=st.just((None, None)) | st.tuples(a_bound, a_bound),
        error=st.sampled_from((None, 5.0, 25.0)),
        ticks_per_row=st.sampled_from((1, 3)),
        warmup_ticks=st.sampled_from((0, 4)),
        episode_ticks=st.sampled_from((0, 25)),
        io=st.sampled_from(("sim", "dds")),
        max_state_age_ms=st.just(120),
    )


def scripted(kinds: list[str]) -> ScriptedPolicy:
    """A policy whose chunks are of these kinds, in turn."""

    def script(number: int, chunk: Any) -> Any:
        rng = np.random.default_rng(number)
        kind = kinds[number % len(kinds)]
        chunk[:] = np.cumsum(rng.normal(0, 0.05, chunk.shape), axis=0)
        if kind == "jump":
            chunk[:] = rng.uniform(-2, 2, chunk.shape)
        elif kind == "huge":
            chunk[:] = rng.choice([-3e38, 1e6], chunk.shape)
        elif kind in ("nan", "inf"):
            chunk[rng.integers(HORIZON), rng.integers(JOINTS)] = float(kind)
        return chunk[1:] if kind == "short" else chunk

    return ScriptedPolicy(action_chunk_size=HORIZON, action_dim=JOINTS, script=script)


class Story:
    """A run, and what was done to it."""

    def __init__(self, cfg: Config, kinds: list[str], delay: float) -> None:
        clock = FakeClock()
        self.robot = FakeRobot(START, clock=clock, share=0.6)
        self.run = SimulatedRun(
            cfg,
            clock=clock,
            robot=self.robot,
            policy=scripted(kinds),
            delay=lambda n: delay,
            busy=self._busy,
        )
        self.went: list[int] = []  # indices of the orders to go
        self.found: list[int] = []  # ticks that saw the robot again after it was lost
        start_from = self.run.loop.sender.start_from

        def noted(pose: Any) -> None:
            self.found.append(self.robot.tick)
            start_from(pose)

        self.run.loop.sender.start_from = noted  # type: ignore[method-assign]
        self._late = 0.0

    def happen(self, event: Event) -> None:
        """One event, and the ticks after it."""
        robot, value = self.robot, event.value
        robot.reading, robot.raising, robot.fault, robot.share = "fresh", set(), "", 0.6
        robot.halfway = event.kind == "halfway"
        if event.kind == "read":
            robot.reading = value
        elif event.kind == "raise":
            robot.raising = {value}
        elif event.kind == "order":
            index = self.run.order(value)
            self.went += [index] * (value is Order.GO)
        elif event.kind == "fault":
            robot.fault = value
        elif event.kind == "share":
            robot.share = value
        elif event.kind == "teleport":
            robot.position[:] = value
        elif event.kind == "restart":
            self.run.restart_inference()
        elif event.kind == "late":
            self._late = value
        self.run.tick(event.ticks)

    def _busy(self, k: int) -> float:
        late, self._late = self._late, 0.0
        return late


def check_sent(story: Story) -> None:
    """Every command is finite, in the position limits, and at most one slew step from the last."""
    cfg, sent = story.run.config, story.robot.sent
    lower, upper, step = cfg.lower_rad, cfg.upper_rad, cfg.max_delta_rad_per_tick
    records = {int(r["tick"]): r for r in story.run.ticks}
    last = records[sent[0].tick]["state"] if sent else np.zeros(JOINTS)
    found = [tick for tick in story.found if sent and tick > sent[0].tick]
    for number, command, _, whole in sent:
        if found and found[0] <= number:
            last = records[found.pop(0)]["state"]
        assert np.isfinite(command).all(), number
        assert (lower <= command).all(), number
        assert (command <= upper).all(), number
        assert (last - step <= command).all(), number
        assert (command <= last + step).all(), number
        last = command
        if whole:
            np.testing.assert_array_equal(records[number]["command"], command)


def check_gate(story: Story) -> None:
    """Nothing before `go`, and nothing of a chunk after a trip before the next `go`."""
    let = False
    for record in story.run.ticks:
        answered = int(record["command_index"]) in story.went
        let |= answered and int(record["command_answer"]) == Answer.DONE
        waits = int(record["phase"]) == Phase.WAITING
        assert let or waits or int(record["phase"]) == Phase.STOPPED
        sent = [s for s in story.robot.sent if s.tick == record["tick"]]
        assert let or not sent
        assert not waits or int(record["hold"]) != Hold.NONE
        if int(record["hold"]) == Hold.NOT_FOLLOWING:
            assert waits or int(record["phase"]) == Phase.PAUSED


@bounded
@given(
    cfg=configs(),
    kinds=st.lists(st.sampled_from(ROWS), min_size=1, max_size=4),
    delay=st.sampled_from((0.5, 2.5, 11.0)),
    begins=st.sampled_from(BEGINNINGS),
    story=st.lists(events(), min_size=1, max_size=25),
)
def test_what_is_sent_keeps_to_the_limits_whatever_happens(
    cfg: Config, kinds: list[str], delay: float, begins: list[Event], story: list[Event]
) -> None:
    told = Story(cfg, kinds, delay)
    with told.run:
        for event in begins + story:
            told.happen(event)
        check_sent(told)
        if cfg.gated:
            check_gate(told)
