"""docs/add_a_policy.md, as a reader follows it: its very code blocks, in a folder of their own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml
from launched import ROOT, run_module, segments, unique_session
from making import Simulate
from msgspec import structs

from rt.config.schema import Algorithm
from rt.errors import ConfigError, PolicyError
from rt.infer import Policy, build_policy
from rt.infer.modes import open_mode
from rt.infer.normalization import Normalizer
from rt.infer.observation import example_observation
from rt.infer.policies import flow
from rt.infer.policy import GuidanceOptions
from rt.infer.policy_config import declared_dims, load_policy_config
from rt.testing import TWO_ARMS, SimulatedRun, config

GUIDE = (ROOT / "docs" / "add_a_policy.md").read_text()
BLOCK = re.compile(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", re.DOTALL)
CAMERAS = ("head", "left", "right")
SERVED = {
    "reach_flow": get_args(Algorithm),
    "reach_direct": ("sequential", "naive", "blend", "temporal_ensembling"),
}
H, A = 50, 24
AS_IT_STANDS = tuple(structs.replace(group, initial_deg=None) for group in TWO_ARMS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The guide's files, importable."""
    folder = tmp_path_factory.mktemp("reader")
    for name, content in BLOCK.findall(GUIDE):
        (folder / name).write_text(content)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in SERVED:
        sys.modules.pop(name, None)


class Seeing:
    """A policy in a simulated run, which has no cameras: it is shown an example's images."""

    def __init__(self, policy: Any, images: dict[str, Any]) -> None:
        self._policy, self._images = policy, images
        self.chunks: list[Any] = []
        self.action_context_size = getattr(policy, "action_context_size", 0)

    def predict(self, input_data: dict[str, Any], *more: Any) -> Any:
        self.chunks.append(self._policy.predict(input_data | self._images, *more))
        return self.chunks[-1]

    def guided_inference(self, input_data: dict[str, Any], *more: Any) -> Any:
        self.chunks.append(self._policy.guided_inference(input_data | self._images, *more))
        return self.chunks[-1]


def simulated(simulate: Simulate, policy: Any, mode: str) -> SimulatedRun:
    settings = config(
        AS_IT_STANDS,
        algorithm=mode,
        camera_names=CAMERAS,
        action_chunk_size=H,
        min_num_actions_executed=25,
        policy_update_period=25,
    )
    images = {name: example_observation(settings)[name] for name in CAMERAS}
    open_mode(settings.run.algorithm, settings.params).check(policy, "the guide")
    return simulate(settings, policy=Seeing(policy, images))


def test_the_guide_has_both_ways_each_with_its_yaml(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{suffix}" for name in SERVED for suffix in ("py", "yaml")
    )


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, modes in SERVED.items() for mode in modes]
)
def test_the_guide_s_policies_run_in_all_modes_that_they_serve(
    simulate: Simulate, folder: Path, name: str, mode: str
) -> None:
    policy = build_policy(folder / f"{name}.yaml")
    assert isinstance(policy, Policy)
    run = simulated(simulate, policy, mode)
    run.tick(150)
    assert len(run.chunks) >= 4
    assert run.dropped == 0
    for chunk in run.policy.chunks:
        assert (chunk.shape, chunk.dtype) == ((H, A), np.float32)
        assert np.isfinite(chunk).all()
    assert sum(int(record["hold"]) == 0 for record in run.ticks) > 120
    np.testing.assert_allclose(run.robot.position, 0, atol=0.01)  # untrained, it stays


@pytest.mark.parametrize("name", SERVED)
def test_the_guide_s_policies_refuse_the_other_modes(
    simulate: Simulate, folder: Path, name: str
) -> None:
    policy = build_policy(folder / f"{name}.yaml")
    for mode in set(get_args(Algorithm)) - set(SERVED[name]):
        with pytest.raises(PolicyError, match=f"{mode}.*one of {', '.join(SERVED[name])}$"):
            simulated(simulate, policy, mode)


@pytest.mark.parametrize("prefix", [False, True])
def test_the_guide_s_flow_network_agrees_with_the_leftover(folder: Path, prefix: bool) -> None:
    policy: Any = build_policy(folder / "reach_flow.yaml")
    # A guess that is x itself: untrained, it depends on nothing, and nothing can pull it.
    policy._network.move.weight.copy_(torch.eye(*policy._network.move.weight.shape))
    seen: dict[str, Any] = {name: np.zeros((1, 3, 240, 320), np.uint8) for name in CAMERAS}
    seen |= {"proprio": np.zeros((1, A), np.float32)}
    leftover = np.full((H, A), 0.3, np.float32)
    more = {"prev_action": leftover, "est_delay": 5, "guidance": GuidanceOptions(prefix=prefix)}
    free = policy.predict(seen, Normalizer.identity())
    bound = policy.guided_inference(seen | more, Normalizer.identity(), 25, H)
    assert abs(free[:5] - leftover[:5]).max() > 1
    assert abs(bound[:5] - leftover[:5]).max() < (1e-6 if prefix else 0.1)
    assert abs(bound[25:] - leftover[25:]).max() > 1


def test_the_real_runtime_drives_with_the_guide_s_files(folder: Path) -> None:
    session = unique_session("guide")
    ended = run_module(
        *("rt.launch", "--robot", "igris_b", "--session", session, "--duration", "3"),
        *("-P", str(folder / "reach_flow.yaml")),
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    assert ended.returncode == 0, ended
    chunks = re.search(r"chunks +(\d+) published, \d+ late, (\d+) dropped", ended.stdout)
    assert chunks, ended.stdout
    assert int(chunks[1]) >= 2
    assert int(chunks[2]) == 0
    assert segments(session) == []


def test_the_hooks_that_the_guide_names_are_those_that_there_are() -> None:
    tables = re.findall(r"\n\| \| \|\n\|---\|---\|\n((?:\|.*\n)+)", GUIDE)
    network, policy = (re.findall(r"^\| `(\w+)", table, re.MULTILINE) for table in tables)
    optional = str(flow.__doc__).partition("optionally,")[2]
    documented = re.findall(r"^    (\w+)(?:\(.*?\))?(?: → x)?   *\S", optional, re.MULTILINE)
    assert sorted(network) == sorted(documented)
    optional = str(Policy.__doc__).partition("Optional:")[2]
    documented = re.findall(r"^      (\w+)(?:\(\))?   *\S", optional, re.MULTILINE)
    assert sorted(policy) == sorted(documented)


def test_a_component_in_a_file_of_its_own_is_the_same(folder: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((folder / "reach_flow.yaml").read_text())
    parts = content["model"]["component_config_paths"]
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(parts["flow"]))
    path = tmp_path / "policy.yaml"
    path.write_text(
        yaml.safe_dump(content | {"model": {"component_config_paths": {"flow": "flow.yaml"}}})
    )
    apart, together = load_policy_config(path), load_policy_config(folder / "reach_flow.yaml")
    assert apart.components == together.components
    assert declared_dims(apart) == declared_dims(together)
    parts["flow"]["clss"] = parts["flow"].pop("class")
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(
        ConfigError, match=r"policy\.yaml: unknown key 'clss': did you mean 'class'"
    ):
        load_policy_config(path)


def test_the_keys_that_the_guide_names_are_those_of_the_yaml(folder: Path) -> None:
    keys = load_policy_config(folder / "reach_flow.yaml").__struct_fields__
    for key in ("checkpoint_path", "norm_stats_path", "norm_stats_mode", "delta_actions"):
        assert f"`{key}" in GUIDE
        assert key in keys
