"""That the judge sees what it looks for: ticks made by hand, right but for one thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from judge import Judge
from launched import unique_session
from tick_log import TickLog

from rt.config import JointGroup
from rt.records import Hold, Phase
from rt.session import Session, ring_table
from rt.testing import config

ARM = JointGroup(name="arm", lower_deg=(-90, -90), upper_deg=(90, 90), max_delta_deg=3)
ROWS = 8


class Control:
    """Writes ticks: the robot stands at 10 degrees, and rows of one chunk say so."""

    def __init__(self, ticks_per_row: int) -> None:
        run = {"io": "dds", "yes": True, "session": unique_session("judge")}
        chosen = config((ARM,), ticks_per_row=ticks_per_row, **run)
        self.session = Session(chosen.run.session)
        self.session.create(ring_table(chosen))
        self.session.publish_config(chosen)
        self._period_ns, self._ticks_per_row = chosen.period_ns, ticks_per_row
        self._ring = self.session.writer("tick")
        self.tick = self._ring.buffer()
        self.tick["phase"], self.tick["t_due"] = Phase.RUN, 1_000_000_000
        for name in ("state", "target", "command"):
            self.tick[name] = np.radians(10)
        self.judge = Judge(TickLog(self.session))

    def does(self, count: int = 1, **fields: Any) -> None:
        """So many ticks with these fields; angles in degrees, `age_ms` of the state, `late_ms`."""
        for _ in range(count):
            tick = self.tick
            tick["tick"] += fields.get("ticks", 1)
            tick["overruns"] += fields.get("overruns", fields.get("ticks", 1) - 1)
            tick["t_due"] += self._period_ns * fields.get("ticks", 1) + fields.get("off_ns", 0)
            tick["t_wake"] = tick["t_due"] + fields.get("late_ms", 1) * 1_000_000
            tick["t_done"] = tick["t_wake"] + 1_000_000
            tick["hold"] = hold = fields.get("hold", Hold.NONE)
            age_ms = fields.get("age_ms", 300 if hold == Hold.NO_STATE else 5)
            tick["t_state"] = tick["t_wake"] - age_ms * 1_000_000
            into_chunk = tick["tick"] % (ROWS * self._ticks_per_row)
            tick["row"] = fields.get("row", into_chunk / self._ticks_per_row)
            tick["chunk_first_tick"] = tick["tick"] - into_chunk
            for name in ("state", "command"):
                if name in fields:
                    tick[name] = np.radians(fields[name])
            self._ring.write(tick)

    @property
    def wrong(self) -> list[str]:
        return self.judge.wrong


@pytest.fixture
def control(request: pytest.FixtureRequest) -> Iterator[Control]:
    made = Control(ticks_per_row=getattr(request, "param", 1))
    made.does(5)
    yield made
    made.session.clean()


def test_a_session_that_keeps_its_promises_is_not_found_fault_with(control: Control) -> None:
    control.does(command=13)
    control.does(ticks=4, late_ms=40)
    control.does(10, hold=Hold.NO_STATE)
    control.does(command=10)
    control.does(3, hold=Hold.STOPPED)
    assert control.wrong == []


@pytest.mark.parametrize("control", [10], indirect=True)
def test_a_row_may_last_several_ticks(control: Control) -> None:
    control.does(30)
    assert control.wrong == []
    control.does(row=3)
    assert len(control.wrong) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": 13.1}, "a step of"),
        ({"command": 11, "hold": Hold.NO_CHUNK}, "and yet the command changed"),
        ({"command": 91}, "beyond the position limits"),
        ({"ticks": 0}, "came 0 after"),
        ({"off_ns": 1}, "whole number of periods"),
        ({"ticks": 2, "overruns": 0}, "did not count"),
        ({"late_ms": -1}, "before it was due"),
        ({"age_ms": 60_000}, "with a state 60000 ms old"),
        ({"row": 3.5}, "executed row"),
        ({"hold": Hold.EXPIRED}, "EXPIRED at row"),
        ({"hold": Hold.NO_CHUNK}, "and yet it had chunk"),
        ({"hold": Hold.NOT_FOLLOWING}, "within the limits of the last command"),
        ({"command": np.nan}, "not finite"),
    ],
)
def test_a_tick_with_one_thing_wrong_is_found_out(
    control: Control, fields: dict[str, Any], words: str
) -> None:
    control.does(**fields)
    assert any(words in found for found in control.wrong), control.wrong


def test_ticks_that_are_caught_up_are_found_out(control: Control) -> None:
    """Each of them wakes after it was due, and after the one before was done."""
    for late_ms in (120, 72, 24):
        control.does(late_ms=late_ms)
    assert len(control.wrong) == 2
    assert all("was caught up" in words for words in control.wrong)


@pytest.mark.parametrize("hold", [Hold.NONE, Hold.ROBOT_FAULT, Hold.STOPPED])
def test_a_robot_that_was_lost_may_be_found_elsewhere_also_with_a_fault(
    control: Control, hold: Hold
) -> None:
    control.does(25, hold=Hold.NO_STATE)
    control.does(hold=hold, state=50, command=50)
    control.does(5, command=50)
    assert control.wrong == []


def test_one_found_beyond_its_limits_is_left_alone(control: Control) -> None:
    control.does(25, hold=Hold.NO_STATE)
    control.does(hold=Hold.OUT_OF_LIMITS, state=91, command=91)
    assert control.wrong == []


@pytest.mark.parametrize("hold", [Hold.NONE, Hold.ROBOT_FAULT])
def test_one_that_was_silent_for_less_may_not(control: Control, hold: Hold) -> None:
    control.does(10, hold=Hold.NO_STATE)
    control.does(hold=hold, state=50, command=50)
    assert len(control.wrong) == 1


def test_a_session_that_ends_while_its_robot_is_lost_holds_the_last_command(
    control: Control,
) -> None:
    control.does(command=10, state=4)  # it lags
    control.does(25, hold=Hold.NO_STATE)
    control.does(hold=Hold.STOPPED, age_ms=1500)
    assert control.wrong == []
