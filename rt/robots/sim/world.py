"""The simulated world: IGRIS_B's stand-in, a table, a target and a post in the way.

The task: bring the right hand over the green target without touching the red post. The post stands
about halfway between the hand's start and the target, so that both ways round it are as good.
Only the cameras see target and post: the joint positions say nothing about them.
"""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from rt.arrays import Vector

REACH_RADIUS_M = 0.03  # how near to `target` the hand has to be
REACH_DWELL_S = 0.5  # and for how long without a break

ARM = ("shoulder_pitch", "shoulder_roll", "upper_arm_yaw", "elbow", "forearm_roll", "wrist_pitch")
HAND = ("thumb", "index", "middle", "ring", "little", "thumb_roll")
JOINTS = tuple(  # the order of state and action vectors, as in configs/robots/igris_b/robot.yaml
    f"{side}_{joint}" for group in (ARM, HAND) for side in ("left", "right") for joint in group
)
INITIAL_RAD = np.radians([-20, -30, 0, 120, 0, 0, 20, 30, 0, -120, 0, 0, *[10] * 12])
INITIAL_RAD.flags.writeable = False


def load_model() -> mujoco.MjModel:
    """The MJCF beside this file."""
    return mujoco.MjModel.from_xml_path(str(Path(__file__).with_name("igris_b.xml")))


class World:
    """MuJoCo, stepped by whoever calls `step`; it knows no clock.

    `model` and `data` are MuJoCo's own, for the painter, demonstrations and tests to look at.
    """

    def __init__(self, seed: int = 0) -> None:
        """The robot at its initial pose, at rest, in the seed's first scene."""
        self.model = load_model()
        self.data = mujoco.MjData(self.model)
        self.joint_ids = np.array([self.model.joint(name).id for name in JOINTS])
        self.hand_id = int(self.model.site("right_hand").id)
        self._qpos = self.model.jnt_qposadr[self.joint_ids]
        self._post_geom = int(self.model.geom("post").id)
        self._post, self._target = (
            int(self.model.body(name).mocapid[0]) for name in ("post", "target")
        )
        self._rng = np.random.default_rng(seed)
        self._owed_s = 0.0  # asked for, and shorter than one step of MuJoCo
        self._near_s = 0.0  # for how long the hand has been at the target
        self.reached = False  # has been at the target, for the dwell, with no touch before
        self.touched_post = False
        self.place(INITIAL_RAD)
        self._home = self.hand
        self.new_scene()

    @property
    def position(self) -> Vector:
        """(24,) rad, a copy, in the order of `JOINTS`."""
        return np.array(self.data.qpos[self._qpos])

    @property
    def hand(self) -> Vector:
        """(3,) m: the lower edge of the right palm."""
        return np.array(self.data.site_xpos[self.hand_id])

    @property
    def target(self) -> Vector:
        """(3,) m: where the hand has to be, above the target's disc."""
        disc = self.data.mocap_pos[self._target]
        return np.array([disc[0], disc[1], self._home[2]])

    @property
    def post(self) -> Vector:
        """(2,) m: where the post stands on the table."""
        return np.array(self.data.mocap_pos[self._post, :2])

    def new_scene(self) -> None:
        """Draw target and post; the robot stays where it is."""
        draw = self._rng.uniform
        home = self._home[:2]
        target = home + np.array([draw(0.26, 0.32), draw(-0.05, 0.11)])
        way = target - home
        sideways = np.array([-way[1], way[0]]) / np.linalg.norm(way)
        post = home + draw(0.45, 0.55) * way + draw(-0.01, 0.01) * sideways
        self.arrange(target, post)

    def arrange(self, target_xy: ArrayLike, post_xy: ArrayLike) -> None:
        """A scene of your own: both (2,) m on the table."""
        self.data.mocap_pos[self._target, :2] = target_xy
        self.data.mocap_pos[self._post, :2] = post_xy
        mujoco.mj_forward(self.model, self.data)
        self._near_s = 0.0
        self.reached = self.touched_post = False

    def place(self, position: Vector) -> None:
        """Put the robot at `position` (24,) rad, at rest, its servos holding it there."""
        self.data.qpos[self._qpos] = position
        self.data.qvel[:] = 0.0
        self.data.ctrl[:] = position
        mujoco.mj_forward(self.model, self.data)

    def step(self, target: Vector, duration_s: float) -> None:
        """Let `duration_s` pass while the servos track `target` (24,) rad.

        MuJoCo steps 2 ms at a time; what is left over is owed to the next call.
        """
        self.data.ctrl[:] = target
        step_s = self.model.opt.timestep
        self._owed_s += duration_s
        steps = int(self._owed_s / step_s + 1e-6)
        self._owed_s -= steps * step_s
        goal = self.target.tolist()
        for _ in range(steps):
            mujoco.mj_step(self.model, self.data)
            if self.data.ncon and self._post_geom in self.data.contact.geom:
                self.touched_post = True
            near = math.dist(self.data.site_xpos[self.hand_id].tolist(), goal) <= REACH_RADIUS_M
            self._near_s = self._near_s + step_s if near else 0.0
            if self._near_s >= REACH_DWELL_S and not self.touched_post:
                self.reached = True
