"""Any robot whose state and commands are ROS messages: the topics file alone describes it.

`driver: rt.robots.topics` in a robot.yaml makes a robot without code.
"""

from rt.robots.robot import Backend

BACKENDS = {
    "dds": Backend(
        robot="rt.robots.topics.robot:over_dds",
        check="rt.robots.topics.wiring:check",
        extra="dds",
        packages=("cyclonedds",),
    ),
    "ros2": Backend(
        robot="rt.robots.topics.robot:over_ros2",
        check="rt.robots.topics.wiring:check",
        packages=("rclpy",),
        remedy="source /opt/ros/<distro>/setup.bash, in a venv that sees its packages "
        "(docs/deploy.md), or use --io dds",
    ),
}
