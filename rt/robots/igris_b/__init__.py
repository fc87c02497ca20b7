"""IGRIS_B: two 6-joint arms and two 6-joint hands, position-controlled at 20 Hz."""

from rt.robots import topics
from rt.robots.robot import Backend

BACKENDS = {
    "sim": Backend(
        robot="rt.robots.sim.robot:SimRobot",
        processes={"sim": "rt.robots.sim.process"},
        rings="rt.robots.sim.robot:rings",
        extra="sim",
        packages=("mujoco", "cv2"),
    ),
    **topics.BACKENDS,
}
