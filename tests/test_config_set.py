"""`--set key=value`: what it reaches and what it refuses."""

from __future__ import annotations

import msgspec
import pytest
from config_folder import Folder, load, load_set, refusal
from config_folder import copied_folder as copied_folder

from rt.config.load import PARAMS_FILE


def test_set_changes_one_value_and_leaves_the_others() -> None:
    before, after = load().config, load_set("params.max_delta_deg=3")
    assert after.params.max_delta_deg == 3
    assert msgspec.structs.replace(after.params, max_delta_deg=5.0) == before.params
    assert after.robot == before.robot


@pytest.mark.parametrize(
    "text",
    [
        "robot.joint_groups[2].max_delta_deg=3",
        "robot.joint_groups.2.max_delta_deg=3",
        "joint_groups[2].max_delta_deg=3",
    ],
)
def test_set_reaches_into_lists(text: str) -> None:
    assert load_set(text).robot.joint_groups[2].max_delta_deg == 3


def test_set_takes_yaml_values() -> None:
    config = load_set("vjp=false", "camera_names=[head, left]", "schedule=zeros")
    assert config.params.vjp is False
    assert config.params.camera_names == ("head", "left")
    assert config.params.schedule == "zeros"


def test_set_may_name_a_key_that_its_file_lacks(folder: Folder) -> None:
    folder.edit("robot", lambda robot: robot.pop("realtime"))
    assert load_set("robot.realtime.spin_us=60").robot.realtime.spin_us == 60


def test_a_bare_key_is_set_wherever_it_stands() -> None:
    config = load_set("HZ=10")
    assert config.params.HZ == config.topics.HZ == 10


def test_the_last_set_of_a_key_wins() -> None:
    assert load_set("max_delta_deg=3", "max_delta_deg=2").params.max_delta_deg == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("params.HZ", "--set params.HZ: expected KEY=VALUE"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("", "expected KEY=VALUE"),
        ("parms.HZ=10", "unknown key 'parms': did you mean 'params'?"),
        ("max_delta=3", "unknown key 'max_delta': did you mean 'max_delta_deg'?"),
        ("params.max_delta=3", "unknown key 'max_delta': did you mean 'max_delta_deg'?"),
        ("robot=3", "expected robot.KEY=VALUE"),
        ("HZ=[1", "expected a YAML value such as 3, true, text or [1, 2], got '[1'"),
        ("HZ.x=3", "params.HZ: expected a mapping or a list to hold 'x', got 20"),
        ("joint_groups[4].name=a", "robot.joint_groups: expected an index from 0 to 3, got '4'"),
        ("joint_groups.x.name=a", "robot.joint_groups: expected an index from 0 to 3, got 'x'"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    message = refusal("--set", text)
    assert message.startswith("--set")
    assert said in message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("params.HZ=10", "--set params.HZ: expected the same rate as"),
        ("topics.HZ=10", "as --set topics.HZ, which is 10"),
        ("joint_groups[0].lower_deg[0]=95", "--set robot.joint_groups[0].lower_deg[0]: "),
        ("joint_groups[0].lower_deg=[95,0,0,0,0,0]", "--set robot.joint_groups[0].lower_deg[0]: "),
        ("action_chunk_size=20", f"{PARAMS_FILE}: min_num_actions_executed: "),
    ],
)
def test_a_contradiction_names_the_flag_only_where_the_flag_gave_the_value(
    text: str, place: str
) -> None:
    assert place in refusal("--set", text)
