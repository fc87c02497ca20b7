"""Whether a policy is for this robot: said by its YAML, or by itself once it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from config_folder import load
from launched import unique_session

from rt.child import Status
from rt.config import Config
from rt.errors import ConfigError
from rt.infer import fit
from rt.infer.affine import IDENTITY, Affine
from rt.infer.normalization import Normalizer
from rt.infer.policy_config import DIMS
from rt.infer.process import open_pipeline
from rt.launcher.prepare import check_run
from rt.records import STATUS
from rt.session import Session, ring_table
from rt.testing import ScriptedPolicy, config

OURS = {"action_dim": 2, "action_horizon": 8, "state_dim": 2}
OURS |= {"proprio_history_size": 1, "num_img_obs": 1}
FAR = Normalizer(Affine(np.full(2, 1e9), np.ones(2)), IDENTITY)  # of another robot


class Telling(ScriptedPolicy):
    """Tells of itself what it is given."""

    def __init__(self, components: dict[str, Any] | None = None, **told: Any) -> None:
        super().__init__(components, action_chunk_size=8, action_dim=2)
        for name, value in told.items():
            setattr(self, name, value)


def written(folder: Path, dims: dict[str, int], **keys: Any) -> Config:
    """A configuration whose policy YAML says this."""
    path = folder / "policy.yaml"
    lines = [f"{key}: {value}" for key, value in keys.items() if not key.startswith("run_")]
    component = {"class": "nobody.Nothing", "params": dims}
    lines.append(f"model: {{component_config_paths: {{net: {component}}}}}")
    path.write_text("\n".join(["policy: {type: flow}", *lines]))
    run = {key.removeprefix("run_"): value for key, value in keys.items() if key[:4] == "run_"}
    return config(policy_yaml_path=str(path), **run)


def refused(told: dict[str, Any], made: Config) -> str:
    with pytest.raises(ConfigError) as caught:
        fit.check(Telling(**told), made)
    return str(caught.value)


def test_a_yaml_of_this_robot_fits(tmp_path: Path) -> None:
    fit.check_yaml(written(tmp_path, {}))
    fit.check_yaml(written(tmp_path, OURS, trained_for="[sim]"))


@pytest.mark.parametrize("name", DIMS)
def test_dims_of_another_robot_are_refused(tmp_path: Path, name: str) -> None:
    made = written(tmp_path, OURS | {name: 77})
    with pytest.raises(ConfigError) as caught:
        fit.check_yaml(made)
    sentence = (
        f": the model has 77, but {made.sources.params} asks for {OURS[name]}: make them agree, "
        "or take another policy with -P"
    )
    assert str(caught.value) == f"{tmp_path}/policy.yaml: params.{name}" + sentence
    place = f"{made.run.policy_yaml_path}: dims.{name}"
    assert refused({"dims": {name: 77}}, made) == place + sentence


def test_it_is_said_before_anything_starts(tmp_path: Path) -> None:
    path = written(tmp_path, {"action_dim": 77}).run.policy_yaml_path
    with pytest.raises(ConfigError, match=r"params\.action_dim: the model has 77, but .* 24: "):
        check_run(load("-P", path).config)


@pytest.mark.parametrize("driver", ["", "mine"])
def test_what_was_not_trained_for_a_real_robot_moves_none(tmp_path: Path, driver: str) -> None:
    made = written(tmp_path, {}, trained_for="[sim]", run_io="dds", run_driver=driver)
    sentence = (
        f"{tmp_path}/policy.yaml: trained_for: expected a policy that was trained for a real "
        "robot, which --io dds means, got one trained for sim: take another with -P"
    )
    if not driver:
        sentence += (
            ", or start the fake robot first (none runs with robot_id fake in DDS domain 0): "
            "python -m rt.robots.fake --robot fake"
        )
    with pytest.raises(ConfigError) as caught:
        fit.check_yaml(made)
    assert str(caught.value) == sentence
    assert refused({"trained_for": ("sim",)}, made) == sentence


def test_a_fake_robot_may_be_moved_by_what_was_trained_for_the_simulated_one(
    tmp_path: Path,
) -> None:
    made = written(tmp_path, {}, trained_for="[sim]", run_io="dds", run_fake="it")
    fit.check_yaml(made)
    fit.check(Telling(trained_for=("sim",)), made)


def test_a_policy_that_tells_nothing_or_what_is_so_fits() -> None:
    fit.check(Telling(), config())
    near = Normalizer(Affine(np.zeros(2), np.ones(2)), IDENTITY)
    told = {"dims": OURS | {"of_tomorrow": 3}, "trained_for": ("real", "sim"), "statistics": near}
    fit.check(Telling(**told, deadline_s=4.9), config(inference_timeout_s=10.0))
    fit.check(Telling(dims={}, trained_for=None, statistics=None), config())


@pytest.mark.parametrize(
    ("statistics", "told"),
    [
        (FAR, r"statistics: observation.state[0]: expected data of this robot"),
        (Normalizer(IDENTITY, Affine(np.zeros(3), np.ones(3))), "action: expected numbers for 2"),
        (Normalizer(IDENTITY, IDENTITY, np.full(3, True)), "delta: expected one for each of 2"),
    ],
)
def test_statistics_of_another_robot_are_refused(statistics: Normalizer, told: str) -> None:
    limited = config(inference_timeout_s=1.0)
    sentence = refused({"statistics": statistics}, limited)
    assert sentence.startswith(f"{limited.run.policy_yaml_path}: statistics: ")
    assert told in sentence


def test_a_call_that_may_take_until_inference_counts_as_stalled_is_refused() -> None:
    sentence = refused({"deadline_s": 5.0}, config(inference_timeout_s=10.0))
    assert "a call may take 5 s: expected less than half of inference_timeout_s" in sentence
    assert "got 10 s" in sentence


@pytest.mark.parametrize("told", ["dims: {action_dim: 3}", "deadline_s: 9", "trained_for: [real]"])
def test_a_policy_is_asked_before_it_is_warmed_up(tmp_path: Path, told: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"policy: {{type: 'test_fit:Telling', {told}}}")
    made = config(session=unique_session("fit"), policy_yaml_path=str(path))
    session = Session(made.run.session)
    session.create(ring_table(made) | {"status.inference": (STATUS, 8)})
    try:
        with (
            Status(session, "inference") as status,
            pytest.raises(ConfigError, match=r"policy\.yaml: "),
        ):
            open_pipeline(made, session, status)
    finally:
        session.clean()
