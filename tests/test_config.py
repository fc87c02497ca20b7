"""Configuration: what is read, what is derived from it, and which word counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from config_folder import HANDS, SHIPPED, Folder, load, load_set
from config_folder import copied_folder as copied_folder

from rt.config import decode_config, encode_config
from rt.config import load as config_load
from rt.errors import ConfigError

# What is shipped, and what is derived from it.


def test_the_shipped_files_load_without_notes() -> None:
    loaded = load()
    assert loaded.notes == ()
    assert loaded.config.run.io == "sim", "a real robot moves only if it is named"
    assert loaded.config.run.session == "igris_b"
    assert Path(loaded.config.run.policy_yaml_path) == SHIPPED / "policies/flow_demo/policy.yaml"


def test_vectors_are_radians_in_state_order() -> None:
    config = load().config
    assert config.lower_rad.shape == config.upper_rad.shape == (24,)
    assert np.all(config.lower_rad < config.upper_rad)
    assert config.lower_rad[1] == pytest.approx(np.deg2rad(-100))
    assert config.upper_rad[23] == pytest.approx(np.deg2rad(60))
    assert config.initial_rad[:12] == pytest.approx(
        np.deg2rad([-20, -30, 0, 120, 0, 0, 20, 30, 0, -120, 0, 0])
    )
    assert np.all(np.isnan(config.initial_rad[12:])), "no pose: the joints stay where measured"


@pytest.mark.parametrize("ticks_per_row", [1, 3, 50])
def test_slew_limits_are_per_row_over_the_ticks_of_a_row(ticks_per_row: int) -> None:
    config = load_set(f"ticks_per_row={ticks_per_row}")
    assert config.max_delta_rad_per_tick[:12] * ticks_per_row == pytest.approx(np.deg2rad(5))
    assert config.max_delta_rad_per_tick[12:] * ticks_per_row == pytest.approx(np.deg2rad(10))


def test_the_way_to_the_initial_pose_has_its_speed_and_never_passes_the_slew_limit() -> None:
    config = load_set("ticks_per_row=5")
    assert config.initial_delta_rad_per_tick == pytest.approx(np.deg2rad(30 / 100))
    fast = load_set("initial_speed_deg_s=150")
    assert fast.initial_delta_rad_per_tick[:12] == pytest.approx(np.deg2rad(5))
    assert fast.initial_delta_rad_per_tick[12:] == pytest.approx(np.deg2rad(7.5))


@pytest.mark.parametrize(
    ("hz", "ticks_per_row", "period_ns"),
    [("20", 1, 50_000_000), ("20", 15, 3_333_333), ("30", 1, 33_333_333), ("12.5", 2, 40_000_000)],
)
def test_the_period_is_the_rounded_nanoseconds_of_a_tick(
    hz: str, ticks_per_row: int, period_ns: int
) -> None:
    config = load_set(f"HZ={hz}", f"ticks_per_row={ticks_per_row}")
    assert config.control_hz == float(hz) * ticks_per_row
    assert config.period_ns == period_ns


def test_a_configuration_survives_the_way_to_another_process() -> None:
    config = load("--duration", "2.5", "--dry-run").config
    assert decode_config(encode_config(config)) == config


@pytest.mark.parametrize("encoded", [b"", b"{}", b"\xff", b'{"robot": 1}', b"null"])
def test_decoding_anything_else_is_a_config_error(encoded: bytes) -> None:
    with pytest.raises(ConfigError):
        decode_config(encoded)


def test_what_crosses_is_checked_again() -> None:
    config = msgspec.to_builtins(load().config)
    config["params"]["HZ"] = 10
    with pytest.raises(ConfigError, match="HZ"):
        decode_config(msgspec.json.encode(config))


def test_loading_imports_no_torch_opencv_or_ros() -> None:
    code = (
        "import sys; from rt.launcher.options import parse; from rt.config.load import load_config;"
        "load_config(parse(['--robot', 'igris_b']));"
        "sys.exit(', '.join({'torch', 'cv2', 'rclpy', 'mujoco'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The original documents' files.

ORIGINAL_PARAMS = """{"HZ": 20, "max_delta_deg": 5, "policy_update_period": 50,
  "mono_image_resize": {"width": 320, "height": 240}, "camera_names": ["head", "left", "right"],
  "proprio_state_dim": 24, "action_dim": 24, "action_chunk_size": 50, "proprio_history_size": 1,
  "num_img_obs": 1, "img_obs_every": 1, "norm_stats_file_path": ""}"""
ORIGINAL_TOPICS = """{"robot_id": "packy", "HZ": 20, "topics": {"joints": {
  "topic": "/igris_b/packy/joint_states", "msg_type": "JointState", "fields": {
    "/observation/joint_pos/left": {"slice": [6, 12], "attr": "position"},
    "/observation/joint_pos/right": {"slice": [0, 6], "attr": "position"}}}}}"""


def test_the_original_params_file_is_valid_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text(ORIGINAL_PARAMS)
    loaded = load("--inference_runtime_params_config", str(path))
    assert loaded.config.params.action_chunk_size == 50
    assert loaded.notes == ()


def test_the_original_topics_file_is_filled_from_the_robots_own_with_a_note(
    tmp_path: Path,
) -> None:
    path = tmp_path / "topics.json"
    path.write_text(ORIGINAL_TOPICS)
    loaded = load("--inference_runtime_topics_config", str(path))
    assert list(loaded.config.topics.topics) == ["joints", "fingers"]
    fields = loaded.config.topics.topics["fingers"].fields
    assert sorted(fields) == sorted(HANDS)
    assert fields[HANDS[0]].slice == (6, 12), "the wire is right first, then left"
    (note,) = loaded.notes
    assert str(path) in note
    assert all(key in note for key in HANDS)


def test_a_filled_topic_is_the_given_robots(tmp_path: Path) -> None:
    path = tmp_path / "topics.json"
    path.write_text(ORIGINAL_TOPICS.replace("packy", "rex"))
    topics = load("--inference_runtime_topics_config", str(path)).config.topics
    assert topics.robot_id == "rex"
    assert topics.topics["fingers"].topic == "/igris_b/{robot_id}/finger_state"


def test_filling_keeps_a_given_topic_of_the_same_name(tmp_path: Path) -> None:
    given = json.loads(ORIGINAL_TOPICS)
    given["topics"] = {"fingers": given["topics"]["joints"]}
    path = tmp_path / "topics.json"
    path.write_text(json.dumps(given))
    topics = load("--inference_runtime_topics_config", str(path)).config.topics.topics
    assert topics["fingers"].msg_type == "JointState"
    assert sorted(topics["fingers.default"].fields) == sorted(HANDS)


def test_a_params_file_may_be_yaml(folder: Folder) -> None:
    path = folder.robot / "mine.yaml"
    path.write_text(yaml.safe_dump(json.loads(ORIGINAL_PARAMS)))
    assert load("--inference_runtime_params_config", str(path)).config.params.HZ == 20


def test_a_byte_order_mark_is_harmless(folder: Folder) -> None:
    folder.path("params").write_text(ORIGINAL_PARAMS, encoding="utf-8-sig")
    assert load().config.params.HZ == 20


def test_an_update_period_longer_than_a_chunk_is_noted() -> None:
    (note,) = load("--set", "policy_update_period=60").notes
    assert "policy_update_period 60" in note


# What goes before what.


def test_io_is_the_command_lines_then_sets_then_the_robots(folder: Folder) -> None:
    folder.edit("robot", lambda robot: robot.update(io="ros2"))
    assert load().config.run.io == "ros2"
    assert load_set("robot.io=dds").run.io == "dds"
    assert load_set("run.io=dds").run.io == "dds"
    assert load_set("io=dds").run.io == "dds"
    assert load("--io", "sim", "--set", "run.io=dds", "--set", "robot.io=dds").config.run.io == (
        "sim"
    )


def test_flags_of_the_command_line_arrive() -> None:
    run = load(
        *("--inference_algorithm", "sequential", "--session", "mine", "--duration", "1.5"),
        *("--inject_delay_ms", "7", "--dry_run", "--require_rt", "--set", "run.sim_seed=4"),
    ).config.run
    assert (run.algorithm, run.session, run.duration_s) == ("sequential", "mine", 1.5)
    assert (run.inject_delay_ms, run.dry_run, run.require_rt, run.sim_seed) == (7, True, True, 4)


# Paths.


def test_the_policy_path_is_absolute_and_relative_to_where_it_was_given(folder: Folder) -> None:
    default = folder.root / "policies/flow_demo/policy.yaml"
    assert load().config.run.policy_yaml_path == str(default)
    assert load("-P", "mine.yaml").config.run.policy_yaml_path == str(Path.cwd() / "mine.yaml")


def test_norm_stats_are_relative_to_the_params_file(folder: Folder) -> None:
    stats = folder.robot / "stats.json"
    stats.write_text("{}")
    folder.edit("params", lambda params: params.update(norm_stats_file_path="stats.json"))
    assert load().config.params.norm_stats_file_path == str(stats)


def test_norm_stats_by_set_are_relative_to_the_current_folder(folder: Folder) -> None:
    (Path.cwd() / "stats.json").write_text("{}")
    config = load_set("norm_stats_file_path=stats.json")
    assert config.params.norm_stats_file_path == str(Path.cwd() / "stats.json")


def test_an_installed_package_brings_its_own_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "rt"
    package.mkdir()
    monkeypatch.setattr(config_load, "__file__", str(package / "config" / "load.py"))
    assert config_load.configs_folder() == tmp_path / "configs"
    (package / "_configs").mkdir()
    assert config_load.configs_folder() == package / "_configs"
