"""`lerobot_policy` where lerobot is not installed: the refusal, the YAML, time, the statistics.

With lerobot's own code: tests_policies/, by `make test-policies`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rt.errors import CheckpointError, ConfigError, MissingPackageError
from rt.infer import build_policy
from rt.infer.affine import IDENTITY
from rt.infer.denoising import guided_denoise
from rt.infer.normalization import Normalizer
from rt.infer.optional import import_optional
from rt.infer.policies import lerobot_policy
from rt.infer.policies.lerobot_policy import LeRobotModel
from rt.infer.policies.lerobot_policy.checkpoint import Checkpoint, strict
from rt.infer.policies.lerobot_policy.statistics import affine
from rt.infer.policy_config import declared_dims, load_policy_config

EXAMPLE = Path(__file__).parents[1] / "configs" / "policies" / "smolvla" / "policy.yaml"
H, A, WIDTH, STEPS = 4, 2, 3, 5
FEATURE = "observation.images.top"


def no_lerobot() -> None:
    if find_spec("lerobot") is not None:
        pytest.skip("lerobot is installed here")


def test_without_lerobot_the_example_is_refused_with_the_pip_command() -> None:
    no_lerobot()
    with pytest.raises(MissingPackageError, match=r"lerobot.*pip install -e '\.\[lerobot\]'$"):
        build_policy(EXAMPLE)


def test_without_lerobot_a_launch_ends_with_2_and_that_sentence(tmp_path: Path) -> None:
    no_lerobot()
    shutil.copy(EXAMPLE.with_name("vla.yaml"), tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text(EXAMPLE.read_text().replace("[real]", "[sim]"))
    session = ["--session", f"lerobot_{os.getpid()}"]
    command = [sys.executable, "-m", "rt.launch", "--robot", "igris_b", "-P", policy, *session]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install -e '.[lerobot]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_example_yaml_declares_its_dims() -> None:
    dims = declared_dims(load_policy_config(EXAMPLE))
    assert dims == {"vla": {"state_dim": 24, "action_dim": 24, "action_horizon": 50}}


def test_a_wrong_param_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "vla.yaml").write_text("params: {pretraned_path: x}\n")
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "model: {component_config_paths: {vla: vla.yaml}}\npolicy: {type: lerobot_policy}\n"
    )
    with pytest.raises(ConfigError, match=r"vla\.yaml: params: .*LeRobotModel"):
        build_policy(policy)


# --- time and prefix, on a stand-in with lerobot's interface


class Sampler(nn.Module):
    """lerobot's names and time: t from 1 (noise) to 0, dt < 0, v = noise − action."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.prefixes = 0

    def sample_actions(self, state: Tensor, noise: Tensor) -> Tensor:
        self.prefixes += 1
        keys, x = {0: state}, noise
        for step in range(STEPS):
            t = torch.full((1,), 1 - step / STEPS)
            x = x - self.denoise_step(x_t=x, past_key_values=keys, timestep=t) / STEPS
        return x

    def denoise_step(
        self, x_t: Tensor, past_key_values: dict[int, Tensor], timestep: Tensor
    ) -> Tensor:
        v: Tensor = torch.tanh(self.linear(x_t)) + past_key_values[0].mean() * timestep
        return v


class StandIn(nn.Module):
    """lerobot's policy around it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Sampler()
        self.config = SimpleNamespace(
            robot_state_feature=SimpleNamespace(shape=(A,)),
            action_feature=SimpleNamespace(shape=(A,)),
            chunk_size=H,
            max_action_dim=WIDTH,
            image_features={FEATURE: None},
        )

    def predict_action_chunk(self, batch: dict[str, Any], noise: Tensor) -> Tensor:
        state = batch["observation.state"] + batch[FEATURE].mean()
        return self.model.sample_actions(state, noise)[..., :A]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> LeRobotModel:
    def load(*_: Any, **__: Any) -> Checkpoint:
        return Checkpoint(StandIn(), lambda batch: batch, Normalizer.identity())

    monkeypatch.setattr(lerobot_policy, "load_checkpoint", load)
    return LeRobotModel(
        pretrained_path="x",
        state_dim=A,
        action_dim=A,
        action_horizon=H,
        camera_map={"head": FEATURE},
    )


def test_time_and_sign_are_mapped(network: LeRobotModel) -> None:
    observation = {
        "proprio": torch.tensor([[[9.0, 9.0], [0.5, -1.0]]]),  # newest last
        "head": torch.tensor([0, 51], dtype=torch.uint8)
        .reshape(1, 2, 1, 1, 1)
        .expand(1, 2, 3, 4, 6),
    }
    noise = torch.randn(1, H, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    theirs = StandIn()
    theirs.load_state_dict(network.policy.state_dict())
    batch = {"observation.state": torch.tensor([[0.5, -1.0]]), FEATURE: torch.tensor(0.2)}
    with torch.inference_mode():
        context = network.encode(observation)
        ours = guided_denoise(lambda x, tau: network.velocity(context, x, tau), noise, STEPS)
        expected = theirs.predict_action_chunk(batch, noise)
    torch.testing.assert_close(ours[..., :A], expected)
    assert network.policy.model.prefixes == 1


def test_weights_that_lerobot_failed_to_load_are_remembered() -> None:
    class Forgiving(nn.Linear):
        """As lerobot's pi0: prints the error, and goes on with what it has."""

        @classmethod
        def from_pretrained(cls, state: dict[str, Tensor]) -> Any:
            policy = cls(1, 1)
            with contextlib.suppress(RuntimeError):
                policy.load_state_dict(state)
            return policy

    load = strict(Forgiving).from_pretrained
    assert load(nn.Linear(1, 1).state_dict()).not_loaded == ""
    assert 'Missing key(s) in state_dict: "bias"' in load({"weight": torch.ones(1, 1)}).not_loaded


# --- statistics


X = np.array([0.0, 3.0, -2.0])
STATISTICS = {
    f"action.{name}": torch.tensor(values)
    for name, values in {
        "mean": [1.0, 2.0, 3.0, 4.0],
        "std": [0.5, 1.0, 2.0, 1.0],
        "min": [-1.0, 0.0, 1.0, 0.0],
        "max": [1.0, 4.0, 1.0, 0.0],
        "q01": [-2.0, 0.0, 0.0, 0.0],
        "q99": [2.0, 1.0, 4.0, 0.0],
        "q10": [-1.0, 0.0, 0.0, 0.0],
        "q90": [1.0, 1.0, 2.0, 0.0],
    }.items()
}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("MEAN_STD", [-2, 1, -2.5]),
        ("MIN_MAX", [0, 0.5, -1 - 6e8]),  # min = max: lerobot divides by eps
        ("QUANTILES", [0, 5, -2]),
        ("QUANTILE10", [0, 5, -3]),
        ("IDENTITY", [0, 3, -2]),
    ],
)
def test_each_mode_normalises_as_lerobot_does(mode: str, expected: list[float]) -> None:
    made = affine(STATISTICS, "action", mode, 3, 1e-8, Path("stats"))
    np.testing.assert_allclose(made.apply(X), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(made.invert(made.apply(X)), X, atol=1e-6)


def test_identity_needs_no_statistics() -> None:
    assert affine({}, "action", "IDENTITY", 3, 1e-8, Path("stats")) is IDENTITY


@pytest.mark.parametrize(
    ("change", "mode", "complaint"),
    [
        ({}, "TANH", "action is normalised by 'TANH', expected one of MEAN_STD, MIN_MAX"),
        ({"q99": [-3.0, 1, 1]}, "QUANTILES", r"stats: action\.q99\[0\]: .*no less than its q01"),
        ({"std": [1.0, 0, 1]}, "MEAN_STD", r"action\.std\[1\]: expected a number above 0, got 0"),
        ({"min": [1.0, np.inf, 1]}, "MIN_MAX", r"action\.min\[1\]: expected a number finite"),
        ({"mean": [1.0, 2.0]}, "MEAN_STD", r"action\.mean: expected 3 numbers, got 2"),
    ],
)
def test_statistics_that_will_not_do_are_told(
    change: dict[str, list[float]], mode: str, complaint: str
) -> None:
    changed = {f"action.{name}": torch.tensor(values) for name, values in change.items()}
    with pytest.raises(CheckpointError, match=complaint):
        affine(STATISTICS | changed, "action", mode, 3, 1e-8, Path("stats"))


def test_missing_statistics_are_told_with_what_is_there() -> None:
    with pytest.raises(CheckpointError, match=r"'state\.mean', got action\.mean, .*fine-tune"):
        affine(STATISTICS, "state", "MEAN_STD", 3, 1e-8, Path("stats"))


def test_a_package_that_breaks_while_it_is_imported_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lerobot does beside a torchvision of another build than torch."""
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").touch()
    (tmp_path / "broken_package" / "part.py").write_text("raise RuntimeError('no operator')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackageError, match=r"cannot be imported \(no operator\): pip that"):
        import_optional("broken_package", "part", policy_type="any", install="pip that")
