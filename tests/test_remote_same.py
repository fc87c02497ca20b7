"""A chunk is the same to the bit wherever it was computed: the real server, over a real socket."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from launched import ROOT
from remote import IDENTITY, remote
from serving import Serving

from rt.infer.loader import build_policy
from rt.infer.modes import open_mode
from rt.infer.normalization import Normalizer
from rt.infer.plan import Plan, leftover
from rt.infer.policy_config import declared_dims, load_policy_config
from rt.records import Outcome
from rt.serve.load import load_engine
from rt.testing import config

POLICIES = ROOT / "configs/policies"


def copied(name: str, folder: Path) -> Path:
    """A shipped policy's YAML, its noise drawn from a seed."""
    shipped = POLICIES / name
    told = yaml.safe_load(shipped.read_text())
    components = told["model"]["component_config_paths"]
    for component, given in components.items():
        if isinstance(given, str):
            components[component] = str(shipped.parent / given)
    for key in ("checkpoint_path", "norm_stats_path"):
        if key in told:
            told[key] = str(shipped.parent / told[key])
    if told["policy"]["type"] != "sway":
        told["policy"]["seed"] = 1
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def normalizer_of(path: Path, dims: dict[str, int]) -> Normalizer:
    stats = load_policy_config(path).norm_stats_path
    if stats is None:
        return IDENTITY
    return Normalizer.load(stats, dims["state_dim"], dims["action_dim"])


@pytest.mark.parametrize(
    ("name", "algorithm", "params"),
    [
        ("flow_demo/policy.yaml", "naive", {}),
        ("flow_demo/policy.yaml", "rtc", {}),
        ("flow_demo/policy.yaml", "rtc", {"schedule": "linear", "vjp": False}),
        ("flow_demo/policy.yaml", "rtc", {"schedule": "zeros", "max_guidance_weight": 2.5}),
        ("flow_demo_delta/policy.yaml", "rtc", {}),
        ("compare/prefix.yaml", "prefix", {}),
        ("sway/policy.yaml", "rtc", {}),
    ],
)
def test_a_remote_chunk_is_the_local_one(
    tmp_path: Path, name: str, algorithm: Any, params: dict[str, Any]
) -> None:
    path = copied(name, tmp_path)
    engine, local = load_engine(path, "cpu"), build_policy(path)
    dims = {k: v for d in declared_dims(load_policy_config(path)).values() for k, v in d.items()}
    normalizer = normalizer_of(path, dims)
    mode = open_mode(algorithm, config(**params).params)
    rng = np.random.default_rng(0)
    cameras = ("head", "left", "right") if name.startswith("flow_demo") else ()
    state_dim = dims.get("state_dim", 4)
    with Serving(engine) as server, closing(remote(server.url)) as policy:
        mode.check(policy, "remote.yaml")
        there = here = None
        for i in range(5):
            seen: dict[str, Any] = {
                "proprio": 0.1 * rng.normal(size=(1, state_dim)).astype(np.float32)
            }
            seen |= {n: rng.integers(0, 256, (1, 3, 240, 320), np.uint8) for n in cameras}
            plan = Plan(i, 0)
            if here is not None and i != 3:  # and cold again
                s = 3 + i
                plan = Plan(i, 0, False, s, i, leftover=leftover(here, s + 0.25))
            there = mode.ask(policy, plan, dict(seen), IDENTITY)
            here = mode.ask(local, plan, dict(seen), normalizer)
            assert there.dtype == here.dtype == np.float32
            assert np.array_equal(there, here)
    assert policy.outcomes[Outcome.OK] == 5
    assert policy.latency["denoise_ns"] > 0
    assert policy.latency["network_ns"] > 0


def test_a_new_episode_begins_anew_over_servertoo(tmp_path: Path) -> None:
    path = copied("sway/policy.yaml", tmp_path)
    mode = open_mode("rtc", config().params)
    with Serving(load_engine(path, "cpu")) as server, closing(remote(server.url)) as policy:
        rest = {"proprio": np.zeros((1, 3), np.float32)}
        first = mode.ask(policy, Plan(0, 0), dict(rest), IDENTITY)
        plan = Plan(1, 0, False, 5, 1, leftover=leftover(first, 5))
        moved = {"proprio": np.ones((1, 3), np.float32)}
        assert not mode.ask(policy, plan, dict(moved), IDENTITY)[0, 0] >= 1  # about the old rest
        policy.reset()
        assert mode.ask(policy, plan, dict(moved), IDENTITY)[0, 0] == 1
