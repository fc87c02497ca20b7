"""A topic's full name, found as ROS 2 finds it."""

from __future__ import annotations

import re

from rt.errors import ConfigError

# Tokens of letters, digits and single underscores that start with no digit, joined by single
# slashes: design.ros2.org/articles/topic_and_service_names.html
TOKEN = r"(?:[A-Za-z]|_(?!_))(?:[A-Za-z0-9]|_(?!_))*"
FULL = re.compile(rf"(?:/{TOKEN})+")


def resolve_topic(name: str, robot_id: str, namespace: str, node: str = "rt") -> str:
    """`name` as an absolute topic: `/a` is one, `a` is in `namespace`, `~/a` is the node's own.

    `{robot_id}` is filled in, and so are ROS's `{node}`, `{ns}` and `{namespace}`.
    Raises ConfigError for what ROS would not take as a name.
    """
    inside = "".join(f"/{token}" for token in namespace.split("/") if token)  # of "/": ""
    words = {"robot_id": robot_id, "node": node, "ns": inside, "namespace": inside}
    full = re.sub(r"\{(\w+)\}", lambda found: words.get(found[1], found[0]), name)
    if full == "~" or full.startswith("~/"):
        full = f"{inside}/{node}{full[1:]}"
    elif not full.startswith("/"):
        full = f"{inside}/{full}"
    if not name or not FULL.fullmatch(full):
        raise ConfigError(
            f"expected a ROS topic name such as /robot/joint_states (letters, digits, single _ "
            f"and /; ~/ and {{robot_id}} are filled in), got {name!r}"
            + (f", which is {full!r}" if name and full != name else "")
        )
    return full
