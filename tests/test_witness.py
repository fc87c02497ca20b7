"""What the fake robot says of its commands is what came."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rt.robots.fake.report import Stream
from rt.robots.fake.witness import Witness

HOME = np.zeros(2)
MS = 1_000_000


class Robot:
    """At home, with limits of 90 degrees. The second joint is not commanded on this topic."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.witness = Witness(self.stream, np.full(2, -np.pi / 2), np.full(2, np.pi / 2))

    def hears(self, degrees: float, ms: float, sender: int = 1) -> None:
        info = SimpleNamespace(publication_handle=sender, source_timestamp=round(ms * MS))
        command = np.array([np.deg2rad(degrees), np.nan])
        self.witness.saw(command, HOME, SimpleNamespace(sample_info=info))


@pytest.fixture
def robot() -> Robot:
    return Robot()


def test_a_senders_first_command_is_measured_from_the_pose_and_the_next_from_it(
    robot: Robot,
) -> None:
    robot.hears(2, ms=0)
    robot.hears(5, ms=50)
    assert robot.stream.first_step_deg == pytest.approx(2)
    assert robot.stream.largest_step_deg == pytest.approx(3)
    robot.hears(7, ms=60, sender=2)
    assert robot.stream.senders == 2
    assert robot.stream.first_step_deg == pytest.approx(7)
    assert robot.stream.largest_step_deg == pytest.approx(3)
    assert robot.stream.returned == 0


def test_two_senders_at_once_are_told(robot: Robot) -> None:
    for ms, sender in ((0, 1), (10, 2), (50, 1), (60, 2)):
        robot.hears(0, ms, sender)
    assert robot.stream.returned == 2


def test_after_a_second_of_silence_it_may_start_from_where_the_robot_is_said_to_be(
    robot: Robot,
) -> None:
    robot.hears(30, ms=0)
    robot.witness.told(np.deg2rad([20, 0]))
    robot.hears(21, ms=1001)
    assert robot.stream.resumed_step_deg == pytest.approx(1)
    assert robot.stream.largest_step_deg == 0
    robot.hears(30, ms=2000)  # not silent for long enough
    assert robot.stream.largest_step_deg == pytest.approx(9)


def test_what_is_beyond_the_limits_is_told(robot: Robot) -> None:
    robot.hears(89, ms=0)
    assert robot.stream.outside_deg == 0
    robot.hears(-92, ms=50)
    assert robot.stream.outside_deg == pytest.approx(2)


def test_the_shortest_time_for_three_is_that_of_one_sender(robot: Robot) -> None:
    for ms in (0, 90, 100, 150):
        robot.hears(0, ms)
    assert robot.stream.three_within_ms == 60
    robot.hears(0, ms=151, sender=2)
    robot.hears(0, ms=152, sender=2)
    assert robot.stream.three_within_ms == 60
