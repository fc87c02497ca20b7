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


# The acceleration bound.


def ramped(targets: list[float], *, bound: float = 0.01, max_delta: float = 0.1) -> Vector:
    """The commands (N,) of one joint from rest at 0, one per target, with limits ±2."""
    one = np.ones(1)
    limits = Limits(-2 * one, 2 * one, max_delta * one, bound * one)
    commands = [np.zeros(1)]
    for target in targets:
        command = np.full(1, np.nan)
        limits.apply(np.array([target]), commands[-1], command)
        limits.sent(command, commands[-1])
        commands.append(command)
    return np.concatenate(commands)


@pytest.mark.parametrize("goal", [1.0, -1.0, 0.37, 0.015, 0.005, 1e-6, 0.3123456789])
def test_a_jump_becomes_a_ramp_that_lands_on_the_target_and_never_passes_it(goal: float) -> None:
    commands = ramped([goal] * 60)
    steps = np.diff(commands)
    assert np.abs(np.diff(steps, prepend=0, append=0)).max() <= 0.01 + 1e-12
    assert np.abs(steps).max() <= 0.1
    assert (steps * np.sign(goal) >= 0).all(), "never back"
    assert (np.abs(commands) <= abs(goal)).all(), "never beyond"
    assert commands[-1] == goal


def test_a_ramp_is_a_trapezium_as_fast_as_its_bounds_let_it() -> None:
    steps = np.diff(ramped([1.5] * 30))
    np.testing.assert_allclose(steps[:10], np.arange(1, 11) * 0.01)
    assert steps[9:14] == pytest.approx(0.1), "then at the slew limit"
    # 1.5 rad at 0.1 a tick, and ten ticks more for both ramps: what the trapezium takes.
    assert np.count_nonzero(steps > 1e-9) <= 25


def test_a_target_that_jumps_about_is_followed_within_every_bound() -> None:
    rng = np.random.default_rng(7)
    commands = ramped(list(np.repeat(rng.uniform(-9, 9, 400), rng.integers(1, 30, 400))))
    steps = np.diff(commands)
    assert np.abs(np.diff(steps, prepend=0)).max() <= 0.01 + 1e-9
    assert np.abs(commands).max() <= 2, "it brakes before the position limit"
    assert (np.abs(steps) <= 0.1 + 1e-12).all()


def test_a_joint_without_a_bound_beside_one_with_is_limited_as_without() -> None:
    for case in list(cases(8))[:500]:
        plain, _ = case.apply()
        bound = np.full(JOINTS, np.inf)
        bound[0] = 1e-3
        beside = Limits(case.lower, case.upper, case.max_delta, bound)
        command = np.full(JOINTS, np.nan)
        beside.apply(case.target, case.last, command)
        np.testing.assert_allclose(command[1:], plain[1:], rtol=0, atol=1e-15)


def test_a_lower_speed_is_kept_and_braked_to() -> None:
    one = np.ones(1)
    free = Limits(-2 * one, 2 * one, 0.1 * one)
    command = np.zeros(1)
    free.apply(one, np.zeros(1), command, 0.03 * one)
    assert command[0] == 0.03
    limits = Limits(-2 * one, 2 * one, 0.1 * one, 0.02 * one)
    limits.sent(0.1 * one, 0 * one)  # it goes as fast as it may
    limits.apply(2 * one, 0.1 * one, command, 0.03 * one)
    assert command[0] == pytest.approx(0.1 + 0.08), "no harder than its bound"


def test_what_was_not_sent_leaves_it_at_rest() -> None:
    one = np.ones(1)
    limits = Limits(-2 * one, 2 * one, 0.1 * one, 0.02 * one)
    assert not limits.moving
    limits.sent(0.1 * one, 0 * one)
    assert limits.moving
    limits.not_sent()
    assert not limits.moving
