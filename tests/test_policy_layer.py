"""From YAML to a running policy, and every way in which that can be wrong."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_flow import NoFlow, TinyFlow
from two_ways import TwoWays

from rt.errors import CheckpointError, ConfigError, MissingPackageError, PolicyError
from rt.infer import POLICY_REGISTRY, Policy, build_policy
from rt.infer.affine import Affine
from rt.infer.example import random_observation
from rt.infer.normalization import Normalizer
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policy import GuidanceOptions
from rt.infer.policy_config import declared_dims, load_policy_config
from rt.infer.registry import Registry

POLICY = """
model:
  component_config_paths:
    flow: components/flow.yaml
policy:
  type: flow
"""
FLOW = """
class: tiny_flow.TinyFlow
params:
  action_dim: 2
  action_horizon: 6
"""
H, A = 6, 2


def write(folder: Path, policy: str = POLICY, component: str = FLOW) -> Path:
    """A policy folder. Returns the policy YAML."""
    (folder / "components").mkdir(exist_ok=True)
    (folder / "components" / "flow.yaml").write_text(component)
    path = folder / "policy.yaml"
    path.write_text(policy)
    return path


def write_checkpoint(folder: Path, state: dict[str, Any], suffix: str = ".pt") -> Path:
    """A policy folder with `checkpoints/flow.<suffix>`. Returns the policy YAML."""
    (folder / "checkpoints").mkdir()
    path = folder / "checkpoints" / f"flow{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    return write(folder, POLICY + "checkpoint_path: checkpoints\n")


def observation(**more: Any) -> dict[str, Any]:
    return {
        "proprio": np.full((1, A), 0.5, np.float32),
        "head": np.full((1, 3, 4, 6), 51, np.uint8),
        **more,
    }


# --- the YAML files


@pytest.mark.parametrize("module", ["rt.infer.policy_config", "rt.infer.policy", "rt.infer"])
def test_a_policy_yaml_is_read_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_exported_name_is_there() -> None:
    import rt.infer

    for name in rt.infer.__all__:
        assert getattr(rt.infer, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = rt.infer.nothing_of_that_name


def test_the_original_openpi_yaml_is_read_unchanged(tmp_path: Path) -> None:
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "openpi_batched.yaml").write_text("""params:
  train_config_name: "pi05_igris"
  ckpt_dir: "/path/to/checkpoints"
  default_prompt: "Pick up objects on the table with the left hand and place them into the box."
  action_dim: 24
  action_horizon: 50
  num_inference_steps: 10
""")
    path = tmp_path / "openpi_policy.yaml"
    path.write_text("""model:
  component_config_paths:
    openpi_model: components/openpi_batched.yaml

policy:
  type: openpi_policy
""")
    config = load_policy_config(path)
    assert config.type == "openpi_policy"
    assert config.kwargs == {}
    assert config.checkpoint_path is None
    assert config.trained_for is None
    assert declared_dims(config) == {"openpi_model": {"action_dim": 24, "action_horizon": 50}}
    with pytest.raises((MissingPackageError, ConfigError), match=r"pip install|train_config_name"):
        build_policy(path)  # without openpi; with it, which has no config of that name


def test_the_original_example_of_an_own_policy_is_read_unchanged(tmp_path: Path) -> None:
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "your_model.yaml").write_text("params: {}\n")
    path = tmp_path / "your_policy.yaml"
    path.write_text("""model:
  component_config_paths:
    main: components/your_model.yaml

policy:
  type: your_policy
""")
    config = load_policy_config(path)
    assert (config.type, list(config.components)) == ("your_policy", ["main"])


def test_paths_are_relative_to_the_policy_yaml(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "stats.json").write_text("{}")
    path = write(tmp_path, POLICY + "checkpoint_path: weights\nnorm_stats_path: stats.json\n")
    config = load_policy_config(path)
    assert config.checkpoint_path == tmp_path / "weights"
    assert config.norm_stats_path == tmp_path / "stats.json"


@pytest.mark.parametrize(
    ("text", "worlds"),
    [("[sim]", ("sim",)), ("[real]", ("real",)), ("[real, sim]", ("real", "sim"))],
)
def test_what_a_policy_was_trained_for_is_a_list_of_worlds(
    tmp_path: Path, text: str, worlds: tuple[str, ...]
) -> None:
    config = load_policy_config(write(tmp_path, f"{POLICY}trained_for: {text}\n"))
    assert config.trained_for == worlds


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ("", "policy.yaml: .*empty"),
        ("model: [unclosed", "policy.yaml: expected valid YAML"),
        ("- a\n- b\n", "policy.yaml: expected a mapping"),
        ("policy: {type: flow}\nmodel: 3\n", "policy.yaml: model: expected a mapping, got 3"),
        ("model: {component_config_paths: {flow: components/flow.yaml}}\n", "'policy'"),
        (POLICY + "checkpoint_pth: x\n", "'checkpoint_pth': did you mean 'checkpoint_path'"),
        (POLICY + "checkpoint_path: 3\n", "checkpoint_path: expected .*got 3"),
        (
            POLICY + "norm_stats_path: gone.json\n",
            r"norm_stats_path: expected a file, .*gone\.json",
        ),
        (POLICY + "trained_for: sim\n", "trained_for: "),
        (POLICY + "trained_for: []\n", "trained_for"),
        (POLICY + "trained_for: [moon]\n", r"trained_for\[0\]: .*'moon'"),
        (POLICY.replace("component_config", "componentconfig"), "model: .*component_config_paths"),
        (POLICY.replace("components/flow.yaml", "7"), r"model\.component_config_paths\.flow: .*7"),
        (POLICY.replace("components/flow.yaml", "no.yaml"), r"no\.yaml: expected a file"),
        (POLICY.replace("flow: comp", "../flow: comp"), "component_config_paths"),
        (POLICY.replace("flow: components/flow.yaml", "{}"), "component_config_paths"),
        (POLICY.replace("type: flow", "kind: flow"), r"policy\.type: expected the name"),
        (POLICY.replace("type: flow", "type: 3"), r"policy\.type: .*got 3"),
    ],
)
def test_a_wrong_policy_yaml_is_told_with_file_and_key(
    tmp_path: Path, policy: str, complaint: str
) -> None:
    path = write(tmp_path, policy)
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_policy_config(path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("component", "complaint"),
    [
        ("", r"flow\.yaml: .*empty"),
        ("params: 3\n", r"flow\.yaml: params: expected a mapping, got 3"),
        ("parms: {}\n", r"flow\.yaml: unknown key 'parms': did you mean 'params'"),
        ("class: 3\n", r"flow\.yaml: class: .*got 3"),
    ],
)
def test_a_wrong_component_yaml_is_told_with_file_and_key(
    tmp_path: Path, component: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_policy_config(write(tmp_path, component=component))


def test_a_policy_yaml_that_is_missing_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_policy_config(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"model: \xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_policy_config(tmp_path / "binary.yaml")


@pytest.mark.parametrize("value", ["'2'", "0", "true", "2.5"])
def test_a_declared_dim_that_is_no_count_is_told(tmp_path: Path, value: str) -> None:
    config = load_policy_config(write(tmp_path, component=f"params: {{action_dim: {value}}}\n"))
    with pytest.raises(ConfigError, match=r"flow\.yaml: params\.action_dim: expected a whole"):
        declared_dims(config)


# --- the registry


def test_a_name_has_one_class() -> None:
    registry = Registry()
    assert registry.register("tiny")(TinyFlow) is TinyFlow
    assert registry.get("tiny") is TinyFlow
    assert registry.names() == ("tiny",)
    with pytest.raises(PolicyError, match=r"'tiny' is already tiny_flow\.TinyFlow"):
        registry.register("tiny")(NoFlow)
    assert registry.get("tiny") is TinyFlow


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    registry = Registry()
    registry.register("tiny")(TinyFlow)
    with pytest.raises(PolicyError, match=r"'tny' .*known are: tiny"):
        registry.get("tny")


# --- building


def test_a_policy_is_built_from_its_yaml(tmp_path: Path) -> None:
    policy = build_policy(write(tmp_path))
    assert isinstance(policy, Policy)
    assert isinstance(policy, FlowPolicy)
    assert isinstance(policy, POLICY_REGISTRY.get("flow"))


def test_a_built_policy_is_frozen_and_in_eval_mode(tmp_path: Path) -> None:
    built: Any = build_policy(write(tmp_path))
    network = built._network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_other_policy_keys_are_keywords_of_its_class(tmp_path: Path) -> None:
    def chunk(keys: str) -> Any:
        torch.manual_seed(0)  # the same weights
        policy = build_policy(write(tmp_path, POLICY + keys))
        return policy.predict(observation(), Normalizer.identity())

    seeded = chunk("  seed: 3\n")
    np.testing.assert_array_equal(seeded, chunk("  seed: 3\n"))
    assert not np.array_equal(seeded, chunk("  seed: 4\n"))
    assert not np.array_equal(seeded, chunk("  seed: 3\n  num_inference_steps: 1\n"))


@pytest.mark.parametrize(
    ("policy", "component", "error", "complaint"),
    [
        (POLICY + "  speed: 3\n", FLOW, ConfigError, "policy.yaml: policy: .*'speed'"),
        (POLICY, FLOW + "  wdth: 3\n", ConfigError, "flow.yaml: params: .*'wdth'"),
        (POLICY.replace("type: flow", "type: flwo"), FLOW, PolicyError, "flow, .*openpi_p"),
        (POLICY.replace("type: flow", "type: nowhere:X"), FLOW, ConfigError, "no module 'nowhere'"),
        (POLICY, "class: nowhere.Net\n", ConfigError, "flow.yaml: class: .*no module 'nowhere'"),
        (POLICY, "class: tiny_flow.Tiny\n", ConfigError, "flow.yaml: class: .*'TinyFlow'"),
        (POLICY, "class: Net\n", ConfigError, "flow.yaml: class: expected package.module.Class"),
        (POLICY, "class: tiny_flow.Half\nparams: {components: {}}\n", PolicyError, "nn.Module"),
        (POLICY, "class: tiny_flow.NoFlow\n", PolicyError, "lacks action_horizon, action_dim, enc"),
        (
            *(POLICY.replace("type: flow", "type: tiny_flow:Half"), FLOW, PolicyError),
            "lacks guided_inference, warmup, freeze_all_model_params",
        ),
        (
            *(POLICY.replace("type: flow", "type: tiny_flow:NoDefault"), "params: {}\n"),
            *(ConfigError, "flow.yaml: expected a key 'class'"),
        ),
    ],
)
def test_what_cannot_be_built_is_told(
    tmp_path: Path, policy: str, component: str, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        build_policy(write(tmp_path, policy, component))


def test_a_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(PolicyError, match="flow cannot be moved to cuda"):
        build_policy(write(tmp_path), map_location="cuda")


# --- checkpoints


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_is_loaded(tmp_path: Path, suffix: str) -> None:
    state = TinyFlow().state_dict()
    built: Any = build_policy(write_checkpoint(tmp_path, state, suffix))
    for name, value in built._network.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_of_another_model_is_refused_with_the_names(
    tmp_path: Path, suffix: str
) -> None:
    state = {"linear.weight": torch.zeros(3, 2), "head.bias": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        build_policy(write_checkpoint(tmp_path, state, suffix))
    words = str(caught.value)
    assert "missing: offset" in words
    assert "unexpected: head.bias" in words
    assert "linear.weight (3, 2) instead of (2, 2)" in words


def test_a_malicious_checkpoint_is_refused_and_never_runs(tmp_path: Path) -> None:
    victim = tmp_path / "victim"

    class Malice:
        def __reduce__(self) -> Any:
            return Path.touch, (victim,)

    path = write_checkpoint(tmp_path, {})
    for save in (
        lambda malice, file: torch.save({"linear.weight": malice}, file),
        lambda malice, file: file.write_bytes(pickle.dumps(malice)),
    ):
        save(Malice(), tmp_path / "checkpoints" / "flow.pt")
        with pytest.raises(CheckpointError, match="cannot be read safely"):
            build_policy(path)
        assert not victim.exists()
    pickle.loads(pickle.dumps(Malice()))  # the control: whoever trusts it runs it
    assert victim.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = write_checkpoint(tmp_path, TinyFlow().state_dict(), suffix)
    checkpoint = tmp_path / "checkpoints" / f"flow{suffix}"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        build_policy(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, torch.zeros(3), {"epoch": 3}])
def test_a_checkpoint_that_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CheckpointError, match="expected a state_dict"):
        build_policy(write_checkpoint(tmp_path, content))


def test_a_checkpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, POLICY + "checkpoint_path: checkpoints\n")
    with pytest.raises(CheckpointError, match=r"policy\.yaml: checkpoint_path: expected a folder"):
        build_policy(path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"flow\.safetensors or flow\.pt in "):
        build_policy(path)


# --- the flow policy


def flow(**kwargs: Any) -> FlowPolicy:
    torch.manual_seed(0)
    policy = FlowPolicy({"flow": TinyFlow().eval()}, **({"seed": 1} | kwargs))
    policy.freeze_all_model_params()
    return policy


NORMALIZER = Normalizer(
    state=Affine(np.array([1.0, 2.0]), np.array([0.5, 4.0])),
    action=Affine(np.array([10.0, -10.0]), np.array([2.0, 3.0])),
)


def test_the_network_sees_a_batch_of_one_and_a_normalised_state() -> None:
    policy: Any = flow()
    policy.predict(observation(prompt="pick", guidance=GuidanceOptions()), NORMALIZER)
    seen = policy._network.seen
    assert set(seen) == {"proprio", "head", "prompt"}
    assert seen["proprio"].dtype == torch.float32
    torch.testing.assert_close(seen["proprio"], torch.tensor([[[-1.0, -0.375]]]))
    assert seen["head"].dtype == torch.uint8
    assert seen["head"].shape == (1, 1, 3, 4, 6)
    assert seen["prompt"] == "pick"


def test_a_chunk_is_float32_in_robot_units() -> None:
    plain = flow().predict(observation(), Normalizer.identity())
    state_only = Normalizer(Normalizer.identity().state, NORMALIZER.action)
    robot = flow().predict(observation(), state_only)
    assert plain.shape == robot.shape == (H, A)
    assert plain.dtype == robot.dtype == np.float32
    np.testing.assert_allclose(robot, plain * [2, 3] + [10, -10], rtol=1e-5)


def test_the_leftover_pulls_in_the_policy_s_units() -> None:
    """Guided in robot units as in its own, the same chunk comes out, in either's units."""
    leftover = np.linspace(-1, 1, H * A, dtype=np.float32).reshape(H, A)
    own = flow().guided_inference(
        observation(prev_action=leftover, est_delay=2), Normalizer.identity(), 1, H
    )
    normalizer = Normalizer(Normalizer.identity().state, NORMALIZER.action)
    robot = flow().guided_inference(
        observation(prev_action=NORMALIZER.denormalize_action(leftover), est_delay=2),
        normalizer,
        1,
        H,
    )
    np.testing.assert_allclose(NORMALIZER.normalize_action(robot), own, atol=1e-5)


def test_the_frozen_rows_come_closer_to_the_leftover() -> None:
    leftover = np.full((H, A), 3.0, np.float32)
    free = flow().predict(observation(), Normalizer.identity())
    guided = flow().guided_inference(
        observation(prev_action=leftover, est_delay=2), Normalizer.identity(), 3, H
    )
    far, near = abs(free - leftover), abs(guided - leftover)
    assert np.all(near[:2] < 0.25 * far[:2])
    np.testing.assert_array_equal(free[3:], guided[3:])  # s = 3: nothing is left from row 3 on


@pytest.mark.parametrize(
    "options",
    [
        GuidanceOptions(schedule="zeros"),
        GuidanceOptions(max_guidance_weight=1.0),
        GuidanceOptions(vjp=False),
    ],
)
def test_guidance_options_change_the_chunk(options: GuidanceOptions) -> None:
    more = {"prev_action": np.ones((H, A), np.float32), "est_delay": 1}
    default, changed, again = (
        flow().guided_inference(observation(**more, **guidance), Normalizer.identity(), 1, H)
        for guidance in ({}, {"guidance": options}, {"guidance": GuidanceOptions()})
    )
    np.testing.assert_array_equal(default, again)
    assert not np.array_equal(default, changed)


def test_without_a_leftover_guided_inference_is_predict() -> None:
    guided = flow().guided_inference(observation(est_delay=2), Normalizer.identity(), 1, H)
    np.testing.assert_array_equal(guided, flow().predict(observation(), Normalizer.identity()))


def test_every_chunk_has_noise_of_its_own() -> None:
    policy = flow()
    chunks = [policy.predict(observation(), Normalizer.identity()) for _ in range(3)]
    assert not np.array_equal(chunks[0], chunks[1])
    np.testing.assert_array_equal(chunks[0], flow().predict(observation(), Normalizer.identity()))
    unseeded = [flow(seed=None).predict(observation(), Normalizer.identity()) for _ in range(2)]
    assert not np.array_equal(unseeded[0], unseeded[1])


def test_the_noise_is_standard_normal() -> None:
    class Still(TinyFlow):
        def velocity(self, context: Any, x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    policy = FlowPolicy({"flow": Still(action_horizon=4000)}, seed=0)
    noise = policy.predict(observation(), Normalizer.identity())
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_latency_is_of_the_last_call() -> None:
    policy = flow()
    assert policy.latency == {"encode_ns": 0, "denoise_ns": 0}
    policy.predict(observation(), Normalizer.identity())
    assert set(policy.latency) == {"encode_ns", "denoise_ns"}
    assert min(policy.latency.values()) > 0


@pytest.mark.parametrize(
    ("more", "chunk_size", "complaint"),
    [
        ({"prev_action": np.zeros((H, A))}, H, "est_delay = None"),
        ({"prev_action": np.zeros((H - 1, A)), "est_delay": 1}, H, r"\(6, 2\).*got \(5, 2\)"),
        ({"prev_action": np.zeros((H, A)), "est_delay": 1}, H + 1, "action_horizon is 6"),
        ({"guidance": {"schedule": "exp"}}, H, "GuidanceOptions, got dict"),
    ],
)
def test_a_wrong_input_is_told(more: dict[str, Any], chunk_size: int, complaint: str) -> None:
    with pytest.raises(PolicyError, match=complaint):
        flow().guided_inference(observation(**more), Normalizer.identity(), 1, chunk_size)


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_a_flow_policy_has_one_component(names: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError, match="exactly one component"):
        FlowPolicy({name: TinyFlow() for name in names})


def test_warm_up_runs_both_paths() -> None:
    policy: Any = flow()
    guided = set()

    def infer(rows: Any) -> Any:
        guided.add(rows[0].guide is not None)
        return FlowPolicy._infer(policy, rows)

    policy._infer = infer
    policy.warmup()
    assert guided == {True, False}


def test_statistics_beside_a_network_s_own_are_refused() -> None:
    """Silently taking the network's own would command relative actions as absolute ones."""
    network = TwoWays(action_horizon=H, action_dim=A, normalizer=Normalizer.identity())
    policy = FlowPolicy({"flow": network})
    given = {"proprio": np.zeros((1, A), np.float32)}
    relative = dataclasses.replace(Normalizer.identity(), delta=np.array([True] * A))
    scaled = Normalizer(Affine(np.zeros(A), np.ones(A)), Affine(np.zeros(A), np.ones(A)))
    policy.predict(given, Normalizer.identity())
    for normalizer in (relative, scaled):
        with pytest.raises(PolicyError, match=r"statistics of its own.*delta_actions"):
            policy.predict(given, normalizer)


def test_the_random_observation_has_the_network_s_shapes() -> None:
    example = random_observation(TinyFlow())
    assert {name: (value.shape, value.dtype) for name, value in example.items()} == {
        "proprio": ((1, A), np.float32),
        "head": ((1, 3, 4, 6), np.uint8),
    }


def test_the_flow_policy_takes_what_the_protocol_gives() -> None:
    for name in ("predict", "guided_inference", "warmup", "freeze_all_model_params"):
        wanted = list(inspect.signature(getattr(Policy, name)).parameters)
        assert list(inspect.signature(getattr(FlowPolicy, name)).parameters) == wanted


def test_compiled_it_gives_the_same_chunks_and_never_compiles_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._dynamo.utils import counters

    # Traced as ever; only the generated code, which takes a C++ compiler half a minute, is spared.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()  # another test's graphs
    counters.clear()
    eager, compiled = flow(), flow(compile=True)
    compiled.warmup()
    assert counters["stats"]["unique_graphs"] == 3  # encode, denoise, guided denoise
    counters.clear()
    eager.warmup()  # both have now drawn the same noise
    for d in (0, 2, 5):
        more = {"prev_action": np.full((H, A), d, np.float32), "est_delay": d}
        np.testing.assert_allclose(
            compiled.guided_inference(observation(**more), Normalizer.identity(), 1, H),
            eager.guided_inference(observation(**more), Normalizer.identity(), 1, H),
            atol=1e-4,
        )
    assert not counters["stats"]
