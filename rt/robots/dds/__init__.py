"""DDS by PyPI's cyclonedds: what ROS 2 speaks on the wire, without ROS."""

from rt.robots.dds.bus import DdsBus

__all__ = ("DdsBus",)
