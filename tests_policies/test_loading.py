"""What a lerobot checkpoint can lack, and how it is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_smolvla
import torch
from safetensors.torch import load_file, save_file
from tiny_smolvla import ACTION_DIM, FEATURES, STATE_DIM, STATISTICS

from rt.errors import CheckpointError, MissingPackageError, PolicyError
from rt.infer import build_policy
from rt.infer.normalization import Normalizer

NORMALIZER = "policy_preprocessor_step_5_normalizer_processor.safetensors"
WriteYaml = Callable[..., Path]


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint, to be damaged."""
    return shutil.copytree(checkpoint, tmp_path / "copied")


def edit_tensors(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_weights_and_statistics_are_the_checkpoints(
    checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    policy: Any = build_policy(policy_yaml(checkpoint))
    saved = load_file(checkpoint / "model.safetensors")
    loaded = policy._network.policy.state_dict()
    assert saved
    assert all(torch.equal(loaded[name], value) for name, value in saved.items())
    state, action = policy._network.normalizer.state, policy._network.normalizer.action
    for affine, feature in ((state, "observation.state"), (action, "action")):
        np.testing.assert_allclose(affine.offset, STATISTICS[feature]["mean"])
        np.testing.assert_allclose(affine.scale, STATISTICS[feature]["std"], rtol=1e-6)


def test_without_the_hub_the_vlm_may_be_a_folder(
    vlm: Path, tmp_path: Path, policy_yaml: WriteYaml
) -> None:
    (tmp_path / "gone").symlink_to(vlm)
    tiny_smolvla.write_checkpoint(tmp_path / "checkpoint", tmp_path / "gone")
    (tmp_path / "gone").unlink()
    with pytest.raises(CheckpointError, match="vlm_path"):
        build_policy(policy_yaml(tmp_path / "checkpoint"))
    build_policy(policy_yaml(tmp_path / "checkpoint", vlm_path=str(vlm)))


def test_a_name_on_the_hub_that_cannot_be_reached_is_told(policy_yaml: WriteYaml) -> None:
    with pytest.raises(CheckpointError, match="nobody/nothing: lerobot cannot load it"):
        build_policy(policy_yaml(Path("nobody/nothing")))


@pytest.mark.parametrize("path", ["/no/such/folder", "checkpoints/of/mine", "./here"])
def test_a_folder_that_is_none_is_told(path: str, policy_yaml: WriteYaml) -> None:
    with pytest.raises(CheckpointError, match="expected a folder, or owner/name"):
        build_policy(policy_yaml(Path("x"), pretrained_path=path))


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("config.json", "lacks config.json: name the folder 'pretrained_model'"),
        ("model.safetensors", "lacks model.safetensors"),
        ("policy_preprocessor.json", "migrate_policy_normalization --pretrained-path"),
        (NORMALIZER, "lerobot cannot load it"),
    ],
)
def test_a_missing_file_is_told(
    file: str, complaint: str, copied: Path, policy_yaml: WriteYaml
) -> None:
    (copied / file).unlink()
    with pytest.raises(CheckpointError, match=complaint):
        build_policy(policy_yaml(copied))


def test_a_missing_and_an_unexpected_weight_are_told_by_name(
    copied: Path, policy_yaml: WriteYaml
) -> None:
    name = "model.action_out_proj.bias"

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.stranger"] = tensors.pop(name)

    edit_tensors(copied / "model.safetensors", rename)
    with pytest.raises(CheckpointError, match=f"{name}.*model.stranger"):
        build_policy(policy_yaml(copied))


def test_damaged_weights_are_told(copied: Path, policy_yaml: WriteYaml) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="lerobot cannot load it"):
        build_policy(policy_yaml(copied))


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda t: t.pop("action.std"), r"expected statistics 'action\.std', got .*action\.mean"),
        (
            lambda t: t.update({"action.mean": torch.zeros(ACTION_DIM - 1)}),
            r"action\.mean: expected 3 numbers, got 2",
        ),
        (
            lambda t: t.update({"observation.state.std": torch.zeros(STATE_DIM)}),
            r"observation\.state\.std\[0\]: expected a number above 0, got 0",
        ),
        (lambda t: t["action.mean"].fill_(np.nan), r"action\.mean\[0\]: .* finite, got nan"),
    ],
)
def test_statistics_that_will_not_do_are_told(
    edit: Callable[[dict[str, torch.Tensor]], Any],
    complaint: str,
    copied: Path,
    policy_yaml: WriteYaml,
) -> None:
    edit_tensors(copied / NORMALIZER, edit)
    with pytest.raises(CheckpointError, match=complaint):
        build_policy(policy_yaml(copied))


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"state_dim": 7}, r"params\.state_dim is 7, but the lerobot checkpoint's is 5"),
        ({"action_dim": 5}, r"params\.action_dim is 5, .* is 3"),
        ({"action_horizon": 50}, r"params\.action_horizon is 50, .* is 8"),
        ({"camera_map": {"head": FEATURES[0]}}, r"\(observation\.images\.top, .*wrist\)"),
        ({"camera_map": dict.fromkeys(("head", "hand"), FEATURES[0])}, "camera_map must name"),
        ({"camera_map": {}, "absent_cameras": list(FEATURES)}, "camera_map must name"),
    ],
)
def test_params_that_are_not_the_checkpoints_are_told(
    params: dict[str, Any], complaint: str, checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    with pytest.raises(PolicyError, match=complaint):
        build_policy(policy_yaml(checkpoint, **params))


def test_a_camera_that_the_robot_has_not_is_told(checkpoint: Path, policy_yaml: WriteYaml) -> None:
    policy: Any = build_policy(policy_yaml(checkpoint))
    seen = policy._network.example_observation()
    del seen["hand"]
    with pytest.raises(PolicyError, match="camera_map names hand, which the robot has not"):
        policy.predict(seen, Normalizer.identity())


def test_actions_rewritten_after_denoising_are_refused(
    copied: Path, policy_yaml: WriteYaml
) -> None:
    edit_json(copied / "config.json", adapt_to_pi_aloha=True)
    with pytest.raises(PolicyError, match="adapt_to_pi_aloha rewrites actions"):
        build_policy(policy_yaml(copied))


def test_a_policy_that_is_no_flow_is_refused(copied: Path, policy_yaml: WriteYaml) -> None:
    (copied / "config.json").write_text('{"type": "act"}')
    with pytest.raises(
        PolicyError, match="expected a policy of type smolvla, pi0, pi05, got 'act'"
    ):
        build_policy(policy_yaml(copied))


@pytest.mark.skipif(
    not version("lerobot").startswith("0.4"), reason="this lerobot has pi0 and pi0.5"
)
@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_pi_policies_name_the_lerobot_that_they_need(
    family: str, copied: Path, policy_yaml: WriteYaml
) -> None:
    (copied / "config.json").write_text(json.dumps({"type": family}))
    with pytest.raises(MissingPackageError, match=r"Python 3\.12 .*pip install 'lerobot\[pi\]"):
        build_policy(policy_yaml(copied))
