"""IGRIS_B played by the simulated world: its table, target, post and cameras."""

from __future__ import annotations

import numpy as np

from rt.arrays import Vector
from rt.robots.fake.ros_side import RosSide
from rt.robots.fake.stage import Role, Stage
from rt.robots.sim.views import Views
from rt.robots.sim.world import World

AWAY_M = 0.06  # the hand has left the initial pose
HOME_M = 0.03  # it is back
SETTLED_S = 0.1  # and for so long: control rests there 0.25 s before an episode begins


class FakeIgrisB:
    """`rt.robots.fake.stage.Played`. Draws a new scene whenever the hand comes back to rest at the
    initial pose, as somebody would who sets the table anew between two episodes."""

    def __init__(self, stage: Stage) -> None:
        """Put the robot at its initial pose and join its topics."""
        params = stage.config.params
        self.places = tuple(stage.config.topics.topics)
        self._world = World(seed=stage.config.run.sim_seed)
        self._home = self._world.hand
        self._wire = RosSide(stage)
        self._views = Views(stage.session, params.camera_names, params.mono_image_resize)
        self._report, self._faults = stage.report, stage.faults
        self._target: Vector = self._world.position
        self._blocked_at: Vector | None = None
        self._was_away = False
        self._at_home_s = 0.0
        self._counted = False  # this scene's success
        self._report.scenes = 1

    def listen(self) -> None:
        """Take the commands that came. Without one the last counts on, as with any
        position-controlled robot."""
        self._wire.listen(self._target, self._world.position)

    def step(self, duration_s: float) -> None:
        if not self._faults.on("block"):
            self._blocked_at = None
        elif self._blocked_at is None:
            self._blocked_at = self._world.position
        self._world.step(self._target if self._blocked_at is None else self._blocked_at, duration_s)
        if self._world.reached and not self._counted:
            self._counted = True
            self._report.reached += 1
        self._set_the_table(duration_s)

    def publish(self) -> None:
        self._wire.publish(self._world.position, np.array(self._world.data.actuator_force))

    def paint(self, t_capture: int) -> None:
        self._views.paint(self._world, t_capture)

    def close(self) -> None:
        self._views.close()

    def _set_the_table(self, duration_s: float) -> None:
        distance_m = float(np.linalg.norm(self._world.hand - self._home))
        self._was_away |= distance_m > AWAY_M
        self._at_home_s = self._at_home_s + duration_s if distance_m < HOME_M else 0.0
        if self._was_away and self._at_home_s >= SETTLED_S:
            self._world.new_scene()
            self._was_away = self._counted = False
            self._report.scenes += 1


ROLE = Role(FakeIgrisB, rate_hz=100.0, sees=True)
