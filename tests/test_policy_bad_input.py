"""A broken policy: one clear sentence before the robot moves, or a counted, dropped chunk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from broken_flow import FAULTS
from config_folder import load
from launched import ROOT, Launched, run_module, segments, unique_session, until
from tiny_flow import TinyFlow

from rt.child import Status
from rt.errors import ConfigError, PolicyError, RtError
from rt.infer.denoising import Guide, guided_denoise, prefix_denoise
from rt.infer.example import random_observation
from rt.infer.inpainting import guided_action_chunk_inference
from rt.infer.normalization import Normalizer
from rt.infer.policies.flow import FlowPolicy
from rt.infer.process import open_pipeline
from rt.launcher.prepare import check_run
from rt.records import STATUS
from rt.session import Session, ring_table

STATS = {"mean": [0.0] * 24, "std": [1.0] * 24, "q01": [-1.0] * 24, "q99": [1.0] * 24}
WritePolicy = Callable[..., Path]


@pytest.fixture
def write_policy(tmp_path: Path) -> WritePolicy:
    """`write_policy(params, policy, **keys)`: a policy YAML around `broken_flow.BrokenFlow`."""

    def write(
        params: dict[str, Any] | None = None, policy: dict[str, Any] | None = None, **keys: Any
    ) -> Path:
        network = {"class": "broken_flow.BrokenFlow", "params": params or {}}
        path = tmp_path / "policy.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "model": {"component_config_paths": {"flow": network}},
                    "policy": policy or {"type": "flow"},
                    **keys,
                }
            )
        )
        return path

    return write


def opened(policy: Path, *flags: str) -> None:
    """All that the launcher and the inference process check before the robot is connected."""
    config = load("-P", str(policy), "--session", unique_session("policy"), *flags).config
    session = Session(config.run.session)
    session.create(ring_table(config) | {"status.inference": (STATUS, 4)})
    try:
        check_run(config)
        with Status(session, "inference") as status:
            open_pipeline(config, session, status)
    finally:
        session.clean()


def refusal(policy: Path, *flags: str) -> str:
    """The one sentence."""
    with pytest.raises(RtError) as caught:
        opened(policy, *flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- before the robot moves


@pytest.mark.parametrize("mode", ["sequential", "naive", "blend", "temporal_ensembling", "rtc"])
def test_the_policy_that_the_others_are_broken_from_is_accepted(
    write_policy: WritePolicy, mode: str
) -> None:
    opened(write_policy(), "--inference_algorithm", mode)


@pytest.mark.parametrize("mode", ["sequential", "naive", "rtc"])
@pytest.mark.parametrize(("params", "theirs"), [({"rows": 40}, "40"), ({"joints": 23}, "23")])
def test_a_network_that_hides_another_h_or_a_is_refused_with_both(
    write_policy: WritePolicy, mode: str, params: dict[str, int], theirs: str
) -> None:
    """Its YAML does not say `action_horizon` or `action_dim`, which would be refused unbuilt."""
    sentence = refusal(write_policy(params), "--inference_algorithm", mode)
    assert theirs in sentence
    assert ("50" if "rows" in params else "24") in sentence


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("too short", "(40, 24), expected (50, 24)"),
        ("too narrow", "(50, 23), expected (50, 24)"),
        ("a batch", "(1, 50, 24), expected (50, 24)"),
        ("whole numbers", "dtype int64, expected float32"),
        ("a list", "a chunk of list, expected (50, 24)"),
        ("a tensor", "a chunk of Tensor, expected (50, 24)"),
        ("nothing", "a chunk of NoneType, expected (50, 24)"),
    ],
)
def test_a_chunk_of_another_shape_dtype_or_kind_is_refused(
    write_policy: WritePolicy, answer: str, told: str
) -> None:
    path = write_policy(policy={"type": "broken_flow:Answers", "answer": answer})
    sentence = refusal(path)
    assert told in sentence
    assert sentence.startswith(str(path))


@pytest.mark.parametrize(
    ("fault", "got"),
    [
        ("one joint more", "(1, 50, 25) torch.float32"),
        ("one row", "(1, 1, 24) torch.float32"),  # these two would be broadcast unseen
        ("no batch", "(50, 24) torch.float32"),
        ("whole numbers", "(1, 50, 24) torch.int32"),
        ("a tuple", "tuple"),
        ("an array", "ndarray"),
    ],
)
def test_a_velocity_of_another_shape_dtype_or_kind_is_refused(
    write_policy: WritePolicy, fault: str, got: str
) -> None:
    sentence = refusal(write_policy({"fault": fault}))
    assert sentence.endswith(f"must be a tensor (1, 50, 24) of floats, like x, got {got}")


@pytest.mark.parametrize("fault", ["one joint more", "one row", "whole numbers", "a tuple"])
@pytest.mark.parametrize("guide", ["none", "vjp", "identity", "prefix"])
def test_denoising_refuses_such_a_velocity_guided_or_not(fault: str, guide: str) -> None:
    def velocity(x: torch.Tensor, tau: torch.Tensor) -> Any:
        return FAULTS[fault](x)

    noise, tied = torch.zeros(1, 6, 2), Guide(torch.ones(6, 2), torch.ones(6))
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "none": lambda: guided_denoise(velocity, noise, 5),
        "vjp": lambda: guided_denoise(velocity, noise, 5, tied),
        "identity": lambda: guided_denoise(velocity, noise, 5, tied, vjp=False),
        "prefix": lambda: prefix_denoise(velocity, noise, 5, tied),
    }
    with pytest.raises(PolicyError, match=r"velocity must be a tensor \(1, 6, 2\) of floats"):
        ways[guide]()


def test_a_velocity_of_more_precision_than_x_is_cast(write_policy: WritePolicy) -> None:
    opened(write_policy({"fault": "double"}))


@pytest.mark.parametrize("mode", ["sequential", "rtc"])
def test_a_network_that_hides_another_state_dim_is_refused_with_both(
    write_policy: WritePolicy, mode: str
) -> None:
    sentence = refusal(write_policy({"states": 23}), "--inference_algorithm", mode)
    assert "state_dim is 23" in sentence
    assert "a state of 24" in sentence


@pytest.mark.parametrize("given", ["policy", "runtime"])
@pytest.mark.parametrize(
    ("stats", "told"),
    [
        ({"action": STATS | {"std": [1.0] * 23 + [0.0]}}, "action.std[23]: expected a number abov"),
        ({"action": STATS | {"std": None}}, "action: expected a key 'std' (a list of 24 numbers)"),
        ({"action": STATS | {"mean": [0.0] * 20}}, "action.mean: expected 24 numbers, got 20"),
        ({"state": STATS | {"std": [1.0]}}, "state.std: expected 24 numbers, got 1"),
        ({"action": None}, "expected a key 'action' or 'actions', got 'state'"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_by_file_and_key(
    write_policy: WritePolicy, tmp_path: Path, given: str, stats: dict[str, Any], told: str
) -> None:
    file = tmp_path / "norm_stats.json"
    kept = {
        key: value for key, value in ({"state": STATS, "action": STATS} | stats).items() if value
    }
    file.write_text(json.dumps({"norm_stats": kept}))
    if given == "policy":
        sentence = refusal(write_policy(norm_stats_path=file.name))
    else:
        sentence = refusal(write_policy(), "--set", f"norm_stats_file_path={file}")
    assert told in sentence
    assert str(file) in sentence


def test_a_mode_that_the_policy_cannot_serve_is_refused_with_those_that_it_can(
    write_policy: WritePolicy,
) -> None:
    sentence = refusal(write_policy(), "--inference_algorithm", "prefix")
    assert "'prefix'" in sentence
    assert "one of sequential, naive, blend, temporal_ensembling, rtc" in sentence


@pytest.mark.parametrize("key", ["initial_delay", "min_num_actions_executed"])
def test_a_delay_or_s_min_below_0_is_refused(write_policy: WritePolicy, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: expected a whole number .* got -1"):
        load("-P", str(write_policy()), "--set", f"{key}=-1")


# --- at the API


@pytest.mark.parametrize(("delay", "executed"), [(-1, 1), (1, -1)])
def test_a_negative_d_or_s_is_refused_wherever_it_comes_in(delay: int, executed: int) -> None:
    leftover = np.zeros((6, 2), np.float32)
    with pytest.raises(PolicyError, match=f"at least 0, got {delay}, {executed} and 6"):
        guided_action_chunk_inference(
            lambda **inputs: inputs["noise"],
            *(None, None, torch.from_numpy(leftover), delay, executed),
            num_ode_sim_steps=5,
            num_queries=6,
            action_dim=2,
        )
    policy = FlowPolicy({"flow": TinyFlow().eval()}, seed=0)
    seen = random_observation(TinyFlow()) | {"prev_action": leftover, "est_delay": delay}
    with pytest.raises(PolicyError, match=f"at least 0, got {delay}, {executed} and 6"):
        policy.guided_inference(seen, Normalizer.identity(), executed, 6)


def test_a_decoder_s_nan_comes_out_as_it_is_and_is_not_hidden_by_the_leftover() -> None:
    chunk = guided_action_chunk_inference(
        lambda **inputs: inputs["noise"] * torch.nan,
        *(None, None, torch.zeros(6, 2), 2, 1),
        num_ode_sim_steps=5,
        num_queries=6,
        action_dim=2,
    )
    assert chunk.isnan().all()


# --- with the real runtime


def with_tests() -> dict[str, str]:
    """Where the child processes find `broken_flow`."""
    return os.environ | {"PYTHONPATH": str(ROOT / "tests")}


@pytest.mark.parametrize("fault", ["chunk", "statistics"])
def test_the_runtime_says_one_sentence_and_never_starts_control(
    write_policy: WritePolicy, tmp_path: Path, fault: str
) -> None:
    if fault == "chunk":
        path = write_policy(policy={"type": "broken_flow:Answers", "answer": "too short"})
        told = f"{path}: the policy gave a chunk of (40, 24), expected (50, 24)"
    else:
        (tmp_path / "stats.json").write_text('{"norm_stats": {"state": {}}}')
        path = write_policy(norm_stats_path="stats.json")
        told = f"{tmp_path / 'stats.json'}: norm_stats.state: expected a key 'mean'"
    session = unique_session("broken")
    ended = run_module(
        *("rt.launch", "--robot", "igris_b", "--session", session, "-P", str(path)),
        env=with_tests(),
    )
    assert ended.returncode == 2, ended
    assert ended.stderr.startswith(told)
    assert len(ended.stderr.splitlines()) == 1
    assert "control [" not in ended.stdout
    assert segments(session) == []


def test_nan_in_a_run_is_dropped_counted_and_explained_while_control_holds(
    write_policy: WritePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", with_tests()["PYTHONPATH"])
    path = write_policy({"fault": "nan", "since": 20})  # warm-up is shorter
    flags = ("--set", "min_num_actions_executed=2", "-P", str(path))
    with Launched("nan", *flags) as run:
        seen = run.when("the last chunk to end", lambda s: s["tick_stats"]["hold"] == "EXPIRED")
        assert 0 < seen["inference"]["published"] < 20
        assert seen["inference"]["dropped"] > 3
        assert seen["tick_stats"]["not_finite"] == 0  # control never saw one
        (inference,) = (p for p in seen["processes"] if p["name"] == "inference")
        assert inference["state"] == "ready"
        assert inference["detail"] == "the policy gave a chunk that is not finite"
        told = "hold expired: the policy gave a chunk that is not finite"
        until("the status line", lambda: told in run.output)
        assert run.stop() == 0, run.output
        run.nothing_left()
