"""What rt.control.limits promises, over many random cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from rt.arrays import Vector
from rt.control.limits import Limits

CASES = 5000
JOINTS = 7


class Case:
    """Random limits, a last command within them, and a target that may be anything finite."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.lower = rng.uniform(-3, 0, JOINTS)
        self.upper = self.lower + 10.0 ** rng.uniform(-6, 1, JOINTS)
        self.max_delta = 10.0 ** rng.uniform(-9, 1, JOINTS)
        self.last = rng.uniform(self.lower, self.upper)
        reach = 10.0 ** rng.uniform(-12, 7, JOINTS)
        self.target = self.last + reach * rng.choice([-1, 0, 1], JOINTS)
        self.limits = Limits(self.lower, self.upper, self.max_delta)

    def apply(self) -> tuple[Vector, int]:
        command = np.full(JOINTS, np.nan)
        return command, self.limits.apply(self.target, self.last, command)


def cases(seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    return (Case(rng) for _ in range(CASES))


def test_a_command_is_within_one_slew_step_of_the_last_as_floats_compare() -> None:
    for case in cases(1):
        command, _ = case.apply()
        assert (command >= case.last - case.max_delta).all()
        assert (command <= case.last + case.max_delta).all()


def test_a_command_is_within_the_position_limits_if_the_last_was() -> None:
    for case in cases(2):
        command, _ = case.apply()
        assert (command >= case.lower).all()
        assert (command <= case.upper).all()


def test_a_target_within_both_limits_is_sent_bit_for_bit() -> None:
    sent = 0
    for case in cases(3):
        low = np.maximum(case.lower, case.last - case.max_delta)
        high = np.minimum(case.upper, case.last + case.max_delta)
        inside = (low <= case.target) & (case.target <= high)
        command, limited = case.apply()
        assert command[inside].tobytes() == case.target[inside].tobytes()
        assert limited == JOINTS - inside.sum(), "every other joint was changed, and counted"
        sent += int(inside.sum())
    assert sent > CASES, "too few targets lay inside to prove anything"


def test_a_command_gets_as_near_to_the_target_as_the_limits_let_it() -> None:
    for case in cases(4):
        command, _ = case.apply()
        low = np.maximum(case.lower, case.last - case.max_delta)
        high = np.minimum(case.upper, case.last + case.max_delta)
        assert (command == np.clip(case.target, low, high)).all()


@pytest.mark.parametrize("outside", [-0.5, 0.5])
def test_from_outside_the_position_limits_it_comes_back_under_the_slew_limit(
    outside: float,
) -> None:
    lower, upper, step = np.array([-1.0]), np.array([1.0]), np.array([0.125])
    limits = Limits(lower, upper, step)
    command = np.array([1.0 if outside > 0 else -1.0]) + outside
    for target in (5.0, -5.0):  # wherever it is told to go
        last = command.copy()
        limits.apply(np.array([target]), last, command)
        assert abs(command[0] - last[0]) <= 0.125
        assert abs(command[0]) < abs(last[0]), "it moves toward the limits"
    for _ in range(10):
        limits.apply(command.copy() * 2, command.copy(), command)
    assert abs(command[0]) <= 1.0


def test_steps_add_up_to_the_target_and_stay_there() -> None:
    for case in cases(5):
        case.max_delta[:] = 0.05
        goal = np.clip(case.target, case.lower, case.upper)
        case.target = goal
        for _ in range(int(np.ceil(np.abs(goal - case.last).max() / 0.05)) + 1):
            case.last, _ = case.apply()
        assert (case.last == goal).all()
        if case.upper.max() < 1:
            break


def test_target_last_and_limits_are_left_as_they_were() -> None:
    case = next(cases(6))
    arrays = case.target, case.last, case.lower, case.upper, case.max_delta
    before = [array.copy() for array in arrays]
    case.apply()
    for array, copy in zip(arrays, before, strict=True):
        assert (array == copy).all()
