"""ROS 2 and DDS: the distribution, its Python, and the variables that steer it."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from rt.config.schema import MAX_DOMAIN
from rt.doctor.row import AskError, Row, Subject, ask_python

# rclpy is built for one Python: that of the Ubuntu that the distribution is made for.
PYTHONS = {"humble": (3, 10), "jazzy": (3, 12), "kilted": (3, 12), "lyrical": (3, 14)}
IMPORT = "import json, rclpy; print(json.dumps(rclpy.__file__))"
NO_PORTS = range(102, 215)  # their UDP ports are those that Linux hands out to anybody


def ros_2(subject: Subject) -> Iterator[Row]:
    """Whether `--io ros2` can import rclpy here."""
    required = subject.io == "ros2"
    distro = subject.env.get("ROS_DISTRO", "")
    if not distro:
        installed = sorted(path.name for path in (subject.root / "opt/ros").glob("*"))
        first = installed[0] if installed else "jazzy"
        yield Row(
            name="ros 2",
            found=f"none sourced, installed: {', '.join(installed) or 'none'}"
            + ("" if required else "; only --io ros2 needs one"),
            ok=not required,
            required=required,
            remedy=f"source /opt/ros/{first}/setup.bash"
            + ("" if installed else ", once installed"),
        )
        return
    wanted, ours = PYTHONS.get(distro), sys.version_info[:2]
    if wanted and wanted != ours:
        version = f"{wanted[0]}.{wanted[1]}"
        found = f"{distro}, whose rclpy is for Python {version}; this is {ours[0]}.{ours[1]}"
        remedy = f"/usr/bin/python{version} -m venv --system-site-packages .venv: docs/deploy.md"
        if wanted < (3, 11):
            remedy = "use --io dds, which needs no ROS"
        yield Row(name="ros 2", found=found, ok=False, required=required, remedy=remedy)
        return
    try:
        found, ok = f"{distro}, {ask_python(IMPORT, timeout_s=30)}", True
    except AskError as error:
        found, ok = f"{distro}, but {error}", False
    remedy = f"source /opt/ros/{distro}/setup.bash, in a venv made with --system-site-packages"
    yield Row(name="ros 2", found=found, ok=ok, required=required, remedy=remedy)


def rmw_implementation(subject: Subject) -> Iterator[Row]:
    """Whether the middleware that RMW_IMPLEMENTATION names is installed, and speaks DDS."""
    rmw = subject.env.get("RMW_IMPLEMENTATION", "")
    distro = subject.env.get("ROS_DISTRO", "")
    name = "RMW_IMPLEMENTATION"
    if not rmw:
        yield Row(name=name, found="not set: the distribution's default", ok=True)
        return
    prefixes = filter(None, subject.env.get("AMENT_PREFIX_PATH", "").split(":"))
    if distro and not any((Path(p) / "lib" / f"lib{rmw}.so").exists() for p in prefixes):
        package = f"ros-{distro}-{rmw.replace('_', '-')}"
        yield Row(
            name=name,
            found=f"{rmw}, which is not installed",
            ok=False,
            required=subject.io == "ros2",
            remedy=f"sudo apt install {package}, or unset RMW_IMPLEMENTATION",
        )
        return
    speaks_dds = "zenoh" not in rmw
    yield Row(
        name=name,
        found=rmw + ("" if speaks_dds else ", which speaks no DDS: --io dds does not hear it"),
        ok=speaks_dds or subject.io != "dds",
        remedy="export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp, on the robot too; or --io ros2",
    )


def ros_domain_id(subject: Subject) -> Iterator[Row]:
    """A number that has ports."""
    text = subject.env.get("ROS_DOMAIN_ID", "")
    name, remedy = "ROS_DOMAIN_ID", "export ROS_DOMAIN_ID=0, or whatever the robot has"
    if text and not (text.isdecimal() and int(text) <= MAX_DOMAIN):
        found = f"{text!r}, expected a number from 0 to {MAX_DOMAIN}"
        yield Row(name=name, found=found, ok=False, required=True, remedy=remedy)
        return
    shared = bool(text) and int(text) in NO_PORTS
    found = (text or "not set: 0") + (", whose ports other programs may hold" if shared else "")
    remedy = "export ROS_DOMAIN_ID=101, or lower, here and on the robot"
    yield Row(name=name, found=found, ok=not shared, remedy=remedy)


def cyclonedds_uri(subject: Subject) -> Iterator[Row]:
    """Whether every file or fragment that CYCLONEDDS_URI names can be read."""
    uri = subject.env.get("CYCLONEDDS_URI", "").strip()
    problem = ""
    try:
        for text in [uri] if "<" in uri else filter(None, uri.split(",")):
            ET.fromstring(f"<list>{_fragment(text)}</list>")
    except (OSError, UnicodeDecodeError, ET.ParseError) as error:
        problem = f", but: {error}"
    yield Row(
        name="CYCLONEDDS_URI",
        found=(uri or "not set: Cyclone DDS takes one interface, by its own choice") + problem,
        ok=not problem,
        required=subject.io in ("dds", "ros2"),
        remedy="mend the file that it names, or unset CYCLONEDDS_URI",
    )


def _fragment(text: str) -> str:
    """The XML that one entry of CYCLONEDDS_URI means, without its declaration."""
    if "<" not in text:
        text = Path(os.path.expandvars(text.strip().removeprefix("file://"))).read_text("utf-8")
    return text[text.index("?>") + 2 :] if text.lstrip().startswith("<?xml") else text
