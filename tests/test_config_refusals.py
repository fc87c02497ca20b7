"""Every mistake in a configuration is refused in one sentence: place, key, expected, got, mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_folder import FILES, HANDS, LEFT, SHIPPED, Folder, load, put, refusal
from config_folder import copied_folder as copied_folder

# Files that cannot be read.


@pytest.mark.parametrize("section", FILES)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "got an empty file"),
        (b" \n\n", "got an empty file"),
        (b'{"HZ": 20, "topics": [1,', "in line 1"),
        (b'{"name": "\xe4"}', "expected UTF-8 text, got byte 0xe4 at offset 10"),
        (b"[1, 2]", "expected a mapping of keys to values at the top, got the list [1, 2]"),
        (b'"text"', "at the top, got text 'text'"),
        (b"null", "at the top, got nothing (null)"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"HZ": 20, "HZ": 30}', "got the key 'HZ' twice"),
        (b'{"a\x00b": 1}', "expected valid"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value)[:16],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    folder: Folder, section: str, content: bytes, said: str
) -> None:
    path = folder.path(section)
    path.write_bytes(content)
    message = refusal()
    assert message.startswith(f"{path}: ")
    assert said in message


@pytest.mark.parametrize("section", ["params", "topics"])
def test_a_file_that_is_missing_is_named(folder: Folder, section: str) -> None:
    folder.path(section).unlink()
    assert refusal() == f"{folder.path(section)}: expected a file, but nothing is there"


def test_a_robot_without_its_policy_is_refused_unless_another_is_given(folder: Folder) -> None:
    folder.edit("robot", lambda robot: robot.update(policy="nowhere.yaml"))
    message = refusal()
    assert message.startswith(f"{folder.path('robot')}: policy: expected a file beside it or in ")
    assert "nothing is at 'nowhere.yaml'" in message
    assert load("-P", "mine.yaml").config.run.policy_yaml_path.endswith("mine.yaml")


def test_a_folder_in_the_place_of_a_file_is_named(folder: Folder) -> None:
    folder.path("params").unlink()
    folder.path("params").mkdir()
    message = refusal()
    assert str(folder.path("params")) in message
    assert "expected a readable file: Is a directory" in message


@pytest.mark.parametrize("flag", ["params", "topics"])
def test_a_given_file_replaces_the_robots_own_or_is_named(folder: Folder, flag: str) -> None:
    message = refusal(f"--inference-runtime-{flag}-config", "none.json")
    assert f"{Path.cwd() / 'none.json'}: expected a file" in message
    message = refusal(f"--inference-runtime-{flag}-config", "none.txt")
    assert "ends in .json, .yaml or .yml, got 'none.txt'" in message


def test_yaml_cannot_make_objects_or_hold_itself(folder: Folder) -> None:
    folder.path("robot").write_text("name: !!python/object/apply:os.getcwd []")
    assert "expected valid YAML" in refusal()
    folder.path("robot").write_text("name: &a [*a]")
    assert "endless nesting" in refusal()
    folder.path("robot").write_text("name: !!set {a, b}")
    assert "got a set or pairs" in refusal()


def test_yaml_cannot_grow_without_bound(folder: Folder) -> None:
    """Nine times the lines before in each: as lists, and as mappings that are merged."""
    lists = ["- &a0 [1]"] + [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    folder.path("robot").write_text("\n".join(lists))
    assert "or more than 100000 values" in refusal()
    merged = ["a0: &a0 {k: 1}"]
    merged += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)]
    folder.path("robot").write_text("\n".join(merged))
    assert "merges more than 100000 values" in refusal()


# Values that are wrong in themselves: the same check, words and key path from a file and by --set.


JOINTS_LEFT = f"topics joints fields {LEFT}"
WRONG_VALUES = [
    ("params", "HZ", 0, "HZ: expected a number > 0, got 0"),
    ("params", "HZ", -20, "HZ: expected a number > 0, got -20"),
    ("topics", "HZ", 0, "HZ: expected a number > 0, got 0"),
    ("params", "HZ", "20", "HZ: expected a number > 0, got text '20'"),
    ("params", "HZ", None, "HZ: expected a number > 0, got nothing (null)"),
    ("params", "HZ", float("nan"), "HZ: expected a finite number, got nan"),
    ("params", "max_delta_deg", float("inf"), "max_delta_deg: expected a finite number, got inf"),
    ("params", "action_dim", 24.0, "action_dim: expected a whole number > 0"),
    ("params", "action_dim", True, "got true"),
    ("params", "action_dim", 10**30, "<= 1000000, got 1000000000000000000000000000000"),
    ("params", "action_chunk_size", 1, "action_chunk_size: expected a whole number >= 2"),
    ("params", "ticks_per_row", 0, "ticks_per_row: expected a whole number > 0"),
    ("params", "initial_delay", -1, "initial_delay: expected a whole number >= 0"),
    ("params", "delay_window", 0, "delay_window: expected a whole number > 0"),
    ("params", "schedule", "lin", "schedule: expected one of exp, linear, ones, zeros, got text"),
    ("params", "camera_names", "head", "camera_names: expected a list of text, got text 'head'"),
    ("params", "camera_names 1", 3, "camera_names[1]: expected text, got 3"),
    ("params", "mono_image_resize", 3, "mono_image_resize: expected a mapping, got 3"),
    ("params", "mono_image_resize width", 0, "mono_image_resize.width: expected a whole number"),
    ("params", "hz", 20, "unknown key 'hz': did you mean 'HZ'?"),
    ("params", "mono_image_resize widht", 3, "unknown key 'widht': did you mean 'width'?"),
    ("params", "zzzz", 1, "unknown key 'zzzz': expected one of HZ, action_chunk_size"),
    ("robot", "joint_groups 2 lower_deg", "no", "joint_groups[2].lower_deg: expected a list of"),
    ("robot", "joint_groups 2 lower_deg 1", "no", "joint_groups[2].lower_deg[1]: expected a num"),
    ("robot", "joint_groups 1 lower", [1], "joint_groups[1]: unknown key 'lower': did you mean"),
    ("robot", "joint_groups 2 max_delta_deg", 0, "expected a number > 0 or null, got 0"),
    ("robot", "realtime priority", 99, "realtime.priority: expected a whole number >= 1 and <= 98"),
    ("robot", "realtime cpu", "lst", "realtime.cpu: expected a whole number >= 0 and"),
    ("robot", "realtime cpu", -1, "realtime.cpu: expected a whole number >= 0 and"),
    ("topics", f"{JOINTS_LEFT} slice", [1], f"{LEFT}.slice: expected a list of 2 whole numbers"),
    ("topics", f"{JOINTS_LEFT} slice 0", -2, f"joints.fields.{LEFT}.slice[0]: expected a whole"),
    ("topics", f"{JOINTS_LEFT} slce", 2, f"joints.fields.{LEFT}: unknown key 'slce': did you"),
]


@pytest.mark.parametrize(("section", "keys", "value", "said"), WRONG_VALUES)
def test_a_wrong_value_in_a_file_is_named_by_file_and_key(
    folder: Folder, section: str, keys: str, value: object, said: str
) -> None:
    folder.edit(section, lambda mapping: put(mapping, keys, value))
    message = refusal()
    assert message.startswith(f"{folder.path(section)}: ")
    assert said in message


@pytest.mark.parametrize(("section", "keys", "value", "said"), WRONG_VALUES)
def test_a_wrong_value_by_set_is_refused_in_the_same_words(
    section: str, keys: str, value: object, said: str
) -> None:
    text = f"{section}.{keys.replace(' ', '.')}={yaml.safe_dump(value, default_flow_style=True)}"
    text = text.removesuffix("\n").removesuffix("\n...")
    message = refusal("--set", text)
    assert message.startswith(f"--set {text}: ")
    assert said in message


@pytest.mark.parametrize(
    ("section", "keys", "said"),
    [
        ("params", "HZ", "expected a key 'HZ' (a number > 0), got none: add it"),
        ("params", "mono_image_resize width", "mono_image_resize: expected a key 'width'"),
        ("robot", "state_keys", "expected a key 'state_keys' (a list of text), got none"),
        ("robot", "joint_groups 3 upper_deg", "joint_groups[3]: expected a key 'upper_deg'"),
        ("topics", f"{JOINTS_LEFT} attr", f"fields.{LEFT}: expected a key 'attr' (text)"),
    ],
)
def test_a_missing_key_is_named(folder: Folder, section: str, keys: str, said: str) -> None:
    *way, last = keys.split()

    def remove(mapping: dict[str, Any]) -> None:
        inner: Any = mapping
        for key in way:
            inner = inner[int(key) if isinstance(inner, list) else key]
        del inner[last]

    folder.edit(section, remove)
    message = refusal()
    assert message.startswith(f"{folder.path(section)}: ")
    assert said in message


def test_a_key_that_is_not_text_is_named(folder: Folder) -> None:
    folder.edit("robot", lambda robot: robot["realtime"].update({1: 2}))
    message = refusal()
    assert f"{folder.path('robot')}: realtime: expected keys that are text, got 1" in message


# Values that contradict each other.

CONTRADICTIONS = [
    ("params HZ", 10, ["expected the same rate", "topics.json: HZ", "20", "got 10", "--set HZ=10"]),
    ("topics HZ", 10, ["params.json: HZ", "topics.json: HZ", "is 10", "got 20"]),
    ("params ticks_per_row", 501, ["2 to 10000 ticks a second", "20 x 501 = 10020"]),
    ("params action_dim", 12, ["expected 24", "robot.yaml: joint_groups", "got 12"]),
    ("params proprio_state_dim", 48, ["proprio_state_dim: expected 24", "got 48"]),
    ("params min_num_actions_executed", 50, ["less than action_chunk_size, 50", "=25"]),
    ("params initial_delay", 50, ["initial_delay: expected less than action_chunk_size, 50"]),
    ("params camera_names", ["a", "b", "a"], ["camera_names: expected distinct names, got 'a'"]),
    ("params camera_names 1", "a/b", ["camera_names[1]: expected 1 to 32 letters", "'a/b'"]),
    ("params camera_names 1", "", ["camera_names[1]: expected 1 to 32 letters", "got ''"]),
    ("params camera_names 1", "a.b", ["camera_names[1]", "'a.b'"]),
    ("params camera_names 1", "a\n", ["camera_names[1]", "'a\\n'"]),
    ("robot joint_groups", [], ["expected one group for each of the 4 state_keys", "got 0"]),
    ("robot joint_groups 1 name", "left_arm", ["joint_groups", "got 'left_arm' twice"]),
    ("robot state_keys 1", LEFT, ["state_keys: expected distinct", "twice"]),
    ("robot joint_groups 2 lower_deg", [], ["joint_groups[2].lower_deg: expected at least one"]),
    ("robot joint_groups 2 upper_deg", [1, 2], ["[2].upper_deg: expected 6 numbers", "got 2"]),
    ("robot joint_groups 0 initial_deg", [0] * 5, ["[0].initial_deg: expected 6", "got 5"]),
    ("robot joint_groups 0 lower_deg 0", 90, ["[0].lower_deg[0]: expected less than", "90"]),
    ("robot joint_groups 0 lower_deg 0", 95, ["upper_deg[0] of left_arm, 90, got 95"]),
    ("robot joint_groups 0 initial_deg 1", 21, ["initial_deg[1]", "limits -100 to 20, got 21"]),
    ("robot joint_groups 0 initial_deg 1", -101, ["limits -100 to 20, got -101"]),
    (f"topics {JOINTS_LEFT} slice", [6, 11], [f"{LEFT}.slice", "end - start = 6", "[6, 11]"]),
    (f"topics {JOINTS_LEFT} slice", [12, 6], [f"{LEFT}.slice", "[12, 6]"]),
    (
        "topics topics fingers fields /observation/joint_pos/lft",
        {"slice": [6, 12], "attr": "data"},
        ["topics.fingers.fields: unknown state key", f"did you mean '{LEFT}'?"],
    ),
    (
        f"topics topics fingers fields {LEFT}",
        {"slice": [6, 12], "attr": "data"},
        [f"expected '{LEFT}' in one topic, got it in joints too"],
    ),
    ("topics robot_id", "a b", ["robot_id: expected 1 to 64 letters", "'a b'"]),
    ("robot name", "igris_c", ["name: expected 'igris_b', its folder's name, got 'igris_c'"]),
    ("robot state_keys 3", "/more", ["got none for /more: add them"]),
]


@pytest.mark.parametrize(("keys", "value", "said"), CONTRADICTIONS)
def test_a_contradiction_names_every_value_and_file(
    folder: Folder, keys: str, value: object, said: list[str]
) -> None:
    section, way = keys.split(maxsplit=1)
    folder.edit(section, lambda mapping: put(mapping, way, value))
    message = refusal()
    assert str(folder.robot) in message
    assert [part for part in said if part not in message] == []


def test_state_keys_without_a_topic_are_named(folder: Folder) -> None:
    folder.edit("topics", lambda topics: topics["topics"].pop("fingers"))
    message = refusal()
    assert str(folder.path("topics")) in message
    assert all(key in message for key in HANDS)


def test_missing_norm_stats_are_named(folder: Folder) -> None:
    folder.edit("params", lambda params: params.update(norm_stats_file_path="stats.json"))
    message = refusal()
    assert f"{folder.path('params')}: norm_stats_file_path: expected a file" in message
    assert str(folder.robot / "stats.json") in message


# Flags.


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--session", "a b"], "session name 'a b': expected 1 to 64 letters, digits, _ or -"),
        (["--session", ""], "session name ''"),
        (["--session", "../x"], "session name '../x'"),
        (["--session", "x" * 65], "expected 1 to 64"),
        (["--session", "a\n"], "session name 'a\\n'"),
        (["--duration", "0"], "command line: duration_s: expected seconds > 0, got 0"),
        (["--duration", "nan"], "command line: duration_s: expected a finite number, got nan"),
        (["--set", "run.duration_s=-1"], "--set run.duration_s: expected seconds > 0, got -1"),
        (["--inject_delay_ms", "-1"], "command line: inject_delay_ms: expected a whole number"),
    ],
)
def test_a_flag_with_a_bad_value_is_refused(flags: list[str], said: str) -> None:
    assert said in refusal(*flags)


@pytest.mark.parametrize("name", ["igrisb", "IGRIS_B", "", "."])
def test_an_unknown_robot_is_answered_with_the_robots_that_there_are(name: str) -> None:
    message = refusal("--robot", name)
    assert message.startswith(f"--robot {name}: unknown robot")
    assert "igris_b" in message
    if name.isidentifier():
        assert "did you mean 'igris_b'?" in message


def test_a_robot_that_lies_here_is_offered_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "igris_d").mkdir()
    (tmp_path / "igris_d/robot.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert "did you mean ./igris_d?" in refusal("--robot", "igris_d")


def test_a_path_to_a_folder_without_a_robot_is_refused(tmp_path: Path) -> None:
    assert refusal("--robot", str(tmp_path)) == (
        f"--robot {tmp_path}: expected a folder with a robot.yaml, got none"
    )


def test_real_cameras_have_to_be_described() -> None:
    sentence = refusal("--io", "dds", "--set", "robot.cameras={}")
    assert "cameras: expected a camera 'head'" in sentence
    assert load("--set", "robot.cameras={}")


@pytest.mark.parametrize("text", ["233", "-1", "one", "1.5"])
def test_a_domain_that_dds_has_no_ports_for_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", text)
    assert refusal() == f"ROS_DOMAIN_ID: expected a number from 0 to 232, got {text!r}"


def test_commands_are_taken_from_the_robots_own_file_if_a_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "older.json"
    content = json.loads((SHIPPED / "robots/igris_b" / FILES["topics"]).read_text())
    commands = content.pop("commands")
    path.write_text(json.dumps(content))
    config = load("--inference_runtime_topics_config", str(path)).config
    assert set(config.topics.commands) == set(commands)
