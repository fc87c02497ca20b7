"""Demonstrations for the comparison's policies: how to go round the obstacle, either way."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rt.arrays import Vector
from rt.compare.world import RADIUS_M, ROW_S, Gusts, World

SPEED = 0.9  # m/s
SLOW_M = 0.25  # from the goal: here it begins to slow down
AGILITY = 0.35  # of the difference to the wanted velocity is made up in one row
MARGIN_M = (0.06, 0.16)  # from the obstacle, another in each demonstration
REACTION_ROWS = 4  # until it sees what a gust has done: 0.24 s, as people do
DOUBT_M = 0.3  # so far off the middle, three of four go round the nearer side


class Demonstrator:
    """N demonstrations' ways: a side and a margin each."""

    def __init__(self, position: Vector, velocity: Vector, world: World, rng: Generator) -> None:
        """Chooses: by chance, the nearer side the more likely."""
        self._obstacle, self._goal = world.obstacle, world.goal
        onward = position + 0.2 * velocity - self._obstacle
        way = _unit(self._goal - self._obstacle)
        offset = way[:, 0] * onward[:, 1] - way[:, 1] * onward[:, 0]  # to the left of the middle
        left = rng.random(len(offset)) < 1 / (1 + np.exp(-offset * np.log(3) / DOUBT_M))
        self._side = np.where(left, 1.0, -1.0)
        self._margin = rng.uniform(*MARGIN_M, len(offset))
        self._rng = rng

    def velocity(self, position: Vector, velocity: Vector) -> Vector:
        """(N, 2) m/s for the next row, from where the robots are and how fast they go."""
        to_goal, to_obstacle = self._goal - position, self._obstacle - position
        away = np.hypot(*to_obstacle.T)
        berth = RADIUS_M + self._margin
        along = _unit(to_goal)
        ahead = (along * to_obstacle).sum(1)
        beside = np.abs(along[:, 0] * to_obstacle[:, 1] - along[:, 1] * to_obstacle[:, 0])
        blocked = (ahead > 0) & (beside < berth)
        # The tangent to the berth's circle; from inside the circle, outward too.
        angle = np.arcsin(np.minimum(1.0, berth / away)) + np.maximum(0.0, 3 * (berth - away))
        round_it = _rotate(_unit(to_obstacle), self._side * angle)
        heading = np.where(blocked[:, None], round_it, along)
        speed = SPEED * np.clip(np.hypot(*to_goal.T) / SLOW_M, 0.5, 1.0)
        wanted: Vector = velocity + AGILITY * (speed[:, None] * heading - velocity)
        return wanted

    def chunk(self, position: Vector, velocity: Vector, horizon: int) -> NDArray[np.float32]:
        """(N, H, 2) float32 m/s: what it does from here on, in gusts.

        What a gust has done it sees late, so that its rows do not tell where it is to the hair. A
        deployed policy's leftover does not either: it was planned before the newest gusts.
        """
        gusts, rows = Gusts(len(position), self._rng), []
        unseen = deque([gusts.next() for _ in range(REACTION_ROWS)])
        for _ in range(horizon):
            velocity = self.velocity(position - ROW_S * sum(unseen), velocity)
            unseen.popleft()
            unseen.append(gusts.next())
            position = position + ROW_S * (velocity + unseen[-1])
            rows.append(velocity)
        return np.stack(rows, axis=1).astype(np.float32)


def _unit(v: Vector) -> Vector:
    unit: Vector = v / np.maximum(np.hypot(*v.T), 1e-9)[:, None]
    return unit


def _rotate(v: Vector, angle: Vector) -> Vector:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1]], axis=1)
