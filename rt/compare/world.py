"""The world of the comparison: many point robots at once, each with an obstacle between it and
its goal, in gusts.

Each robot is steered by its velocity (vx, vy) in m/s. Both ways round the obstacle are as good, so
a policy may choose either, and two chunks in a row may choose differently. A gust pushes every
robot off its course, so what was planned from an old position is wrong by the time it is executed.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rt.arrays import Vector

Bools = NDArray[np.bool_]

ROW_S = 0.06  # a row lasts so long
EPISODE_ROWS = 120  # an episode that takes longer has failed
RADIUS_M = 0.35  # of the obstacle
GOAL_M = 0.12  # so close to the goal is there
MAX_SPEED = 1.0  # m/s along each axis; faster commands are cut
GUST_M_S = 0.16  # standard deviation of each gust, along each axis
GUST_MEMORY = 0.7  # of one row's gust stays in the next: a gust lasts about 3 rows


class Gusts:
    """What pushes N robots off their courses."""

    def __init__(self, robots: int, rng: Generator) -> None:
        self._rng = rng
        self._now = rng.normal(0, GUST_M_S, (robots, 2))

    def next(self) -> Vector:
        """(N, 2) m/s, of the next row."""
        fresh = self._rng.normal(0, GUST_M_S, self._now.shape)
        self._now = GUST_MEMORY * self._now + np.sqrt(1 - GUST_MEMORY**2) * fresh
        return self._now


class World:
    """B episodes of B scenes, in step. (B, 2) arrays are x and y in metres or m/s."""

    def __init__(self, episodes: int, seed: int) -> None:
        """The seed draws the scenes and all gusts to come, whatever the robots do."""
        scenes, weather = np.random.default_rng(seed).spawn(2)

        def around(x: float, y: float, dx: float, dy: float) -> Vector:
            return np.array([x, y]) + scenes.uniform(-1, 1, (episodes, 2)) * [dx, dy]

        self.position = around(-1.0, 0.0, 0.1, 0.3)
        self.goal = around(1.0, 0.0, 0.1, 0.3)
        self.obstacle = around(0.0, 0.0, 0.15, 0.15)
        self.velocity = np.zeros((episodes, 2))  # in force
        self.row = 0
        self.rows = np.full(episodes, EPISODE_ROWS)  # each episode's length, once it is over
        self.reached: Bools = np.zeros(episodes, np.bool_)
        self.touched: Bools = np.zeros(episodes, np.bool_)
        self._gusts = Gusts(episodes, weather)

    @property
    def over(self) -> Bools:
        """Which episodes have ended. Their robots stay where they are."""
        return self.reached | self.touched | (self.row >= EPISODE_ROWS)

    def step(self, velocity: Vector) -> None:
        """One row with these velocities (B, 2) m/s."""
        going = ~self.over
        self.velocity = np.clip(velocity, -MAX_SPEED, MAX_SPEED)
        self.position[going] += (ROW_S * (self.velocity + self._gusts.next()))[going]
        self.row += 1
        self.touched |= going & (distance(self.position, self.obstacle) < RADIUS_M)
        self.reached |= going & (distance(self.position, self.goal) < GOAL_M)
        self.rows[going] = self.row

    def observe(self) -> NDArray[np.float32]:
        """What the policy sees: obstacle and goal as seen from the robot, (B, 4) float32 m."""
        seen = np.hstack([self.obstacle - self.position, self.goal - self.position])
        return seen.astype(np.float32)


def distance(a: Vector, b: Vector) -> Vector:
    """(B,) m between points (B, 2)."""
    gap: Vector = np.hypot(*(a - b).T)
    return gap
