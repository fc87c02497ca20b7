"""ROS 2 by the system's rclpy, imported only where `--io ros2` asks for it."""

from rt.robots.ros2.bus import RosBus

__all__ = ("RosBus",)
