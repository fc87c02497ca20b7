"""Scripted demonstrations: the right hand goes round the post, either way, to the target.

The hand's path is the shortest one round a circle about the post, on the demonstration's side, at
constant speed and slower near the target. So the expert is a field: what it does depends on where
the hand is and on the side alone, and a demonstration may start, or be pushed, anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from rt.arrays import Vector
from rt.robots.sim.world import ARM, INITIAL_RAD, JOINTS, World

Side = Literal[-1, 1]  # which way round the post, seen along the way: 1 left, -1 right

ROW_S = 0.05
CLEARANCE_M = 0.085  # of the hand's middle from the post's
SPEED_M_S = 0.12
APPROACH_S = 0.3  # time constant of the slow-down near the target
MAX_DELTA_RAD = np.radians(3.0)  # per row: 60 % of the arms' slew limit
RAMP_ROWS = 4  # from rest to full speed
DAMPING = 0.02
# m per rad about x, y, z: holding the hand as it hung at the start, against holding its path
ROTATION_WEIGHT = np.array([0.2, 0.2, 0.1])
RIGHT_ARM = slice(6, 12)


class Planner:
    """Joint targets, row by row, from inverse kinematics on a world of its own."""

    def __init__(self) -> None:
        self._world = World()
        model = self._world.model
        self._dofs = model.jnt_dofadr[[model.joint(f"right_{joint}").id for joint in ARM]]
        self._jacobian = np.zeros((6, model.nv))
        self._upright = self._rotation()

    def hand(self, position: Vector) -> Vector:
        """(3,) m: where the hand is at `position` (24,) rad."""
        self._world.place(position)
        return self._world.hand

    def plan(
        self, position: Vector, target: Vector, post: Vector, side: Side, rows: int
    ) -> NDArray[np.float64]:
        """(rows, 24) rad: the targets from a robot at rest at `position` (24,) rad."""
        plan = np.empty((rows, len(JOINTS)))
        at = position.copy()
        for row in range(rows):
            self._world.place(at)
            delta = np.clip(INITIAL_RAD - at, -MAX_DELTA_RAD, MAX_DELTA_RAD)
            delta[RIGHT_ARM] = self._arm_delta(target, post, side)
            at = at + delta * min(1.0, (row + 1) / RAMP_ROWS)
            plan[row] = at
        return plan

    def _arm_delta(self, target: Vector, post: Vector, side: Side) -> Vector:
        """(6,) rad: one row's motion of the right arm, by damped least squares."""
        hand = self._world.hand
        to_target = target - hand
        wanted = np.zeros(6)
        speed = min(SPEED_M_S, _length(to_target[:2]) / APPROACH_S)
        wanted[:2] = heading(hand[:2], target[:2], post, side) * speed * ROW_S
        wanted[2] = to_target[2] * ROW_S / APPROACH_S
        wanted[3:] = self._tilt() * ROTATION_WEIGHT * ROW_S / APPROACH_S

        model, data = self._world.model, self._world.data
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._world.hand_id)
        jacobian = self._jacobian[:, self._dofs].copy()
        jacobian[3:] *= ROTATION_WEIGHT[:, None]
        square = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        delta = jacobian.T @ np.linalg.solve(square, wanted)
        largest = max(float(np.abs(delta).max()), 1e-9)
        return np.asarray(delta * min(1.0, MAX_DELTA_RAD / largest))

    def _rotation(self) -> NDArray[np.float64]:
        return np.array(self._world.data.site_xmat[self._world.hand_id]).reshape(3, 3)

    def _tilt(self) -> Vector:
        """(3,) rad: the rotation that would bring the hand back to how it hung at the start."""
        quat, rotation = np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(quat, (self._upright @ self._rotation().T).ravel())
        mujoco.mju_quat2Vel(rotation, quat, 1.0)
        return rotation


def heading(at: Vector, target: Vector, post: Vector, side: Side) -> Vector:
    """(2,) unit vector: where the shortest path to `target` round the post's circle sets out."""
    way, to_post = target - at, post - at
    distance = _length(to_post)
    along = min(max(float(to_post @ way) / _length(way) ** 2, 0.0), 1.0)
    if _length(along * way - to_post) >= CLEARANCE_M:
        return way / _length(way)
    if distance > CLEARANCE_M:
        turn = math.asin(CLEARANCE_M / distance)  # along the tangent
    else:
        turn = math.pi / 2 + min(1.0, 20 * (1 - distance / CLEARANCE_M))  # along it and outward
    cos, sin = math.cos(side * turn), math.sin(side * turn)
    x, y = to_post / _length(to_post)
    return np.array([cos * x - sin * y, sin * x + cos * y])


def likely_side(at: Vector, target: Vector, post: Vector, rng: np.random.Generator) -> Side:
    """Either side where they are as good, else the side on which `at` already is.

    All (2,) m. A hand that is 2 cm off the straight way takes the nearer side 9 times in 10.
    """
    way = target - at
    left_m = float(way[1] * (post - at)[0] - way[0] * (post - at)[1]) / _length(way)
    return 1 if rng.random() < 1 / (1 + math.exp(-left_m / 0.009)) else -1


def _length(vector: Vector) -> float:
    return max(float(np.linalg.norm(vector)), 1e-9)


class Demonstration:
    """One scene, one plan, and its execution under a disturbance.

    Iterate it to have the world stepped through it: each item is the row that is about to be
    executed. `chunk(row, H)` is what a policy should say at that row.
    """

    def __init__(
        self, world: World, planner: Planner, rng: np.random.Generator, *, rows: int = 90
    ) -> None:
        """Draws a new scene; half of the demonstrations start somewhere on the way instead."""
        world.new_scene()
        self._world, self._rng = world, rng
        self.side: Side = 1 if rng.random() < 0.5 else -1
        self._start = INITIAL_RAD.copy()
        target, post = world.target, world.post
        if rng.random() < 0.5:
            self._start = planner.plan(self._start, target, post, self.side, rows)[
                rng.integers(0, rows * 3 // 4)
            ]
            self._start[RIGHT_ARM] += rng.normal(0, np.radians(4.0), 6)
            at = planner.hand(self._start)
            self.side = likely_side(at[:2], target[:2], post, rng)
        self._start += rng.normal(0, np.radians(0.5), len(JOINTS))
        self.plan = planner.plan(self._start, target, post, self.side, rows)

    def __iter__(self) -> Iterator[int]:
        self._world.place(self._start)
        push = np.zeros(len(JOINTS))
        for row, command in enumerate(self.plan):
            yield row
            push = 0.85 * push + self._rng.normal(0, np.radians(0.4), len(JOINTS))
            self._world.step(command + push, ROW_S)

    def chunk(self, row: int, horizon: int) -> NDArray[np.float64]:
        """(horizon, 24) rad: the plan from `row`; past its end, its last row."""
        return self.plan[np.minimum(np.arange(row, row + horizon), len(self.plan) - 1)]
