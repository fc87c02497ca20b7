"""Topic names are found as ROS 2 finds them."""

from __future__ import annotations

import pytest

from rt.config.topic_names import resolve_topic
from rt.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "namespace", "full"),
    [
        ("/joint_states", "/", "/joint_states"),
        ("/joint_states", "/lab", "/joint_states"),
        ("joint_states", "/", "/joint_states"),
        ("joint_states", "/lab", "/lab/joint_states"),
        ("joint_states", "lab/left", "/lab/left/joint_states"),
        ("arm/joint_states", "/lab", "/lab/arm/joint_states"),
        ("~/joint_states", "/", "/rt/joint_states"),
        ("~/joint_states", "/lab", "/lab/rt/joint_states"),
        ("~", "/lab", "/lab/rt"),
        ("/igris_b/{robot_id}/joint_states", "/lab", "/igris_b/packy/joint_states"),
        ("{robot_id}/joint_states", "/lab", "/lab/packy/joint_states"),
        ("/a/{node}/b", "/lab", "/a/rt/b"),
        ("{ns}/b", "/lab", "/lab/b"),
        ("{namespace}/b", "/lab", "/lab/b"),
        ("{ns}/b", "/", "/b"),
        ("_hidden", "/", "/_hidden"),
    ],
)
def test_a_name_is_resolved_as_ros_does(name: str, namespace: str, full: str) -> None:
    assert resolve_topic(name, "packy", namespace) == full


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a/",
        "/a//b",
        "//a",
        "/a b",
        "/a-b",
        "/1a",
        "/a/2",
        "/a__b",
        "/__a",
        "a~",
        "~a",
        "/~/a",
        "/{robot}/a",
        "/{robot_id/a",
        "/a\n",
    ],
)
def test_a_name_that_ros_refuses_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_topic(name, "packy", "/lab")
    assert repr(name) in str(caught.value)


def test_a_robot_id_that_makes_no_name_is_shown_in_it() -> None:
    with pytest.raises(ConfigError, match="which is '/igris_b/unit-7/joint_states'"):
        resolve_topic("/igris_b/{robot_id}/joint_states", "unit-7", "/")
