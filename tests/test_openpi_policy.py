"""openpi's models, run by our guidance: on a stand-in for the package, and on it where it is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model

from rt.errors import CheckpointError, ConfigError, MissingPackageError, PolicyError, RtError
from rt.infer import build_policy
from rt.infer.normalization import Normalizer
from rt.infer.policies.openpi_policy import OpenPiNetwork, OpenPiPolicy
from rt.infer.policy import GuidanceOptions
from rt.wire.openpi import openpi_observation

STAND_INS = Path(__file__).parent / "stand_ins"
H, A, WIDTH, STEPS = 6, 3, 8, 4  # of the stand-in's models, and of these tests
SEED = 7
NAMES = {"top": "observation/image", "hand": "observation/wrist"}  # pi05_tiny's cameras
UNUSED = Normalizer.identity()  # the runtime's: the checkpoint has its own


def forget_openpi() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "openpi"]:
        del sys.modules[name]


@pytest.fixture
def openpi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in is the package openpi."""
    forget_openpi()
    monkeypatch.syspath_prepend(str(STAND_INS))
    yield
    forget_openpi()


def stats() -> dict[str, Any]:
    """Of a robot whose joints have very different ranges."""
    NormStats = import_module("openpi.shared.normalize").NormStats
    mean, std = np.array([10.0, -3.0, 0.5]), np.array([2.0, 0.5, 0.1])
    of = NormStats(mean=mean, std=std, q01=mean - 2 * std, q99=mean + 3 * std)
    return {"state": of, "actions": of}


def write_checkpoint(folder: Path, name: str) -> Path:
    """A checkpoint of the stand-in's train config. Returns its folder."""
    config = import_module("openpi.training.config").get_config(name)
    torch.manual_seed(0)
    model = import_module("openpi.models_pytorch.pi0_pytorch").PI0Pytorch(config.model)
    folder = folder / "checkpoint"
    folder.mkdir(exist_ok=True)
    save_model(model, str(folder / "model.safetensors"))
    import_module("openpi.shared.normalize").save(folder / "assets" / "tiny_robot", stats())
    return folder


def params(folder: Path, name: str = "pi05_tiny", **more: Any) -> dict[str, Any]:
    robot = {} if name == "pi0_tiny" else {"camera_map": NAMES, "state_key": "observation/state"}
    return {
        "train_config_name": name,
        "ckpt_dir": str(folder),
        "default_prompt": "tidy up",
        "action_dim": A,
        "action_horizon": H,
        "num_inference_steps": STEPS,
        "precision": "float32",
        **robot,
        **more,
    }


def policy(tmp_path: Path, name: str = "pi05_tiny", **more: Any) -> Any:
    """Built from the keywords, seeded and frozen."""
    network = OpenPiNetwork(**params(write_checkpoint(tmp_path, name), name, **more)).eval()
    built = OpenPiPolicy({"openpi_model": network}, seed=SEED)
    built.freeze_all_model_params()
    return built


def observation(**more: Any) -> dict[str, Any]:
    """Of a robot with every camera that a test may map."""
    random = np.random.default_rng(1)
    cameras = {
        name: random.integers(0, 256, (1, 3, 12, 20), np.uint8)
        for name in ("top", "hand", "head", "left", "right")
    }
    return cameras | {"proprio": np.array([[11.0, -3.2, 0.4]], np.float32)} | more


def seeded_noise(rows: int, columns: int) -> torch.Tensor:
    return torch.randn((1, rows, columns), generator=torch.Generator().manual_seed(SEED))


def openpi_s_own(
    network: Any, data: dict[str, Any], noise: torch.Tensor, steps: int, prompt: str
) -> np.ndarray[Any, Any]:
    """The chunk that openpi's Policy infers with the same model; `data` in the robot's own keys."""
    transforms, checkpoint = import_module("openpi.transforms"), network._checkpoint
    config = checkpoint.train_config
    group = config.data.create(config.assets_dirs, config.model)
    assets = checkpoint.folder / "assets" / group.asset_id
    norm_stats = import_module("openpi.shared.normalize").load(assets)
    policy = import_module("openpi.policies.policy").Policy(
        network.model,
        transforms=[
            transforms.InjectDefaultPrompt(prompt),
            *group.data_transforms.inputs,
            transforms.Normalize(norm_stats, use_quantiles=group.use_quantile_norm),
            *group.model_transforms.inputs,
        ],
        output_transforms=[
            *group.model_transforms.outputs,
            transforms.Unnormalize(norm_stats, use_quantiles=group.use_quantile_norm),
            *group.data_transforms.outputs,
        ],
        sample_kwargs={"num_steps": steps},
        is_pytorch=True,
        pytorch_device="cpu",
    )
    actions: np.ndarray[Any, Any] = policy.infer(data, noise=noise[0].numpy())["actions"]
    return actions


# --- what openpi computes, we compute


@pytest.mark.usefixtures("openpi")
@pytest.mark.parametrize(("precision", "atol"), [("float32", 2e-4), ("bfloat16", 0.03)])
@pytest.mark.parametrize("name", ["pi05_tiny", "pi0_tiny"])
def test_an_unguided_chunk_is_openpi_s_own(
    tmp_path: Path, name: str, precision: str, atol: float
) -> None:
    """Time convention, transforms, statistics, delta mask, padding and the prefix: all of it."""
    built = policy(tmp_path, name, precision=precision)
    seen = observation()
    if name == "pi05_tiny":
        data = {NAMES[camera]: seen[camera][-1] for camera in NAMES}
        data["observation/state"] = seen["proprio"][-1]
    else:
        keys = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
        cameras = dict(zip(keys, ("head", "left", "right"), strict=True))
        data = {
            "image": {key: seen[camera][-1].transpose(1, 2, 0) for key, camera in cameras.items()},
            "image_mask": dict.fromkeys(keys, np.True_),
            "state": seen["proprio"][-1],
        }
    network = built._network
    theirs = openpi_s_own(network, data, seeded_noise(H, WIDTH), STEPS, "tidy up")[:, :A]
    ours = built.predict(observation(), UNUSED)
    assert ours.shape == (H, A)
    assert ours.dtype == np.float32
    ranges = np.array([2.0, 0.5, 0.1])
    np.testing.assert_allclose(ours / ranges, theirs / ranges, atol=atol)
    assert np.ptp(theirs / ranges, axis=0).min() > 30 * atol  # or any chunk would do
    towers = network.model.paligemma_with_expert
    assert {weight.dtype for weight in towers.parameters()} == {getattr(torch, precision)}


@pytest.mark.usefixtures("openpi")
def test_the_prefix_is_embedded_once_per_chunk(tmp_path: Path) -> None:
    built = policy(tmp_path)
    towers = built._network.model.paligemma_with_expert
    passes = {"prefix": 0, "expert": 0}
    for name, tower in (
        ("prefix", towers.paligemma.language_model),
        ("expert", towers.gemma_expert.model),
    ):
        tower.register_forward_hook(lambda *_, name=name: passes.update({name: passes[name] + 1}))
    built.predict(observation(), UNUSED)
    assert passes == {"prefix": 1, "expert": STEPS}


@pytest.mark.usefixtures("openpi")
def test_the_prefix_s_keys_and_values_stay_as_they_are(tmp_path: Path) -> None:
    network = policy(tmp_path)._network
    seen = {key: torch.from_numpy(value)[None] for key, value in observation().items()}
    context = network.encode(seen)
    state, mask, layers = context
    before = [tensor.clone() for layer in layers for tensor in layer]
    x, tau = torch.randn(1, H, WIDTH), torch.tensor([0.25])
    first = network.velocity(context, x, tau)
    network.velocity(context, torch.randn_like(x), torch.tensor([0.5]))
    assert [tensor.shape[-2] for layer in layers for tensor in layer] == [mask.shape[1]] * 4
    for tensor, copy in zip((t for layer in layers for t in layer), before, strict=True):
        assert torch.equal(tensor, copy)
    assert torch.equal(network.velocity(context, x, tau), first)
    assert state.shape == (1, WIDTH)


@pytest.mark.usefixtures("openpi")
@pytest.mark.parametrize(
    ("name", "offset", "scale"),
    [  # pi0: z-score, absolute; pi0.5: quantiles, the first two joints relative to the state
        ("pi0_tiny", [10.0, -3.0, 0.5], [2.0, 0.5, 0.1]),
        ("pi05_tiny", [11.0 + 11.0, -2.75 - 3.2, 0.55], [5.0, 1.25, 0.25]),
    ],
)
def test_actions_are_normalised_as_the_checkpoint_says(
    tmp_path: Path, name: str, offset: list[float], scale: list[float]
) -> None:
    state = observation()["proprio"][-1]
    normalizer = policy(tmp_path, name)._network.normalizer.anchored(state)
    units = np.array([[0.0] * A, [1.0] * A, [-1.0] * A])
    robot = np.array(offset) + units * np.array(scale)
    np.testing.assert_allclose(normalizer.denormalize_action(units), robot, atol=1e-4)
    np.testing.assert_allclose(normalizer.normalize_action(robot), units, atol=1e-4)
    np.testing.assert_array_equal(normalizer.normalize_state(state), state)  # openpi does that


# --- guidance


@pytest.mark.usefixtures("openpi")
def test_the_frozen_rows_come_closer_to_the_leftover(tmp_path: Path) -> None:
    free = policy(tmp_path).predict(observation(), UNUSED)
    leftover = free + np.array([4.0, 1.0, 0.2], np.float32)

    def guided(**more: Any) -> Any:
        seen = observation(prev_action=leftover, est_delay=2, **more)
        return policy(tmp_path).guided_inference(seen, UNUSED, 3, H)

    pulled = guided()
    far, near = abs(free - leftover), abs(pulled - leftover)
    assert np.all(near[:2] < 0.3 * far[:2])
    assert not np.array_equal(guided(guidance=GuidanceOptions(vjp=False)), pulled)


@pytest.mark.usefixtures("openpi")
def test_a_leftover_is_pulled_to_where_it_is_not_where_the_robot_has_gone(tmp_path: Path) -> None:
    """Relative joints are re-anchored at the new state: the leftover is absolute."""
    leftover = np.tile(np.array([30.0, -5.0, 0.5], np.float32), (H, 1))
    for state in ([11.0, -3.2, 0.4], [19.0, -2.2, 0.4]):
        seen = observation(prev_action=leftover, est_delay=H)
        seen["proprio"] = np.array([state], np.float32)
        chunk = policy(tmp_path).guided_inference(seen, UNUSED, 0, H)
        free = policy(tmp_path).predict({**observation(), "proprio": seen["proprio"]}, UNUSED)
        assert np.all(abs(chunk - leftover)[:, :2] < 0.3 * abs(free - leftover)[:, :2] + 0.1)


@pytest.mark.usefixtures("openpi")
def test_both_paths_are_warmed_up_and_all_modes_but_prefix_are_offered(tmp_path: Path) -> None:
    built = policy(tmp_path)
    built.warmup()
    assert "rtc" in built.modes
    assert "prefix" not in built.modes


# --- the prompt, the cameras, the steps


@pytest.mark.usefixtures("openpi")
def test_the_default_prompt_is_for_want_of_another(tmp_path: Path) -> None:
    default, said, other = (
        policy(tmp_path).predict(observation(**more), UNUSED)
        for more in ({}, {"prompt": "tidy up"}, {"prompt": "sit down"})
    )
    np.testing.assert_array_equal(default, said)
    assert not np.array_equal(default, other)


def test_a_camera_that_is_not_there_is_black_and_masked() -> None:
    data = openpi_observation(observation(), {"top": "left_wrist_0_rgb"}, "state")
    assert data["image"]["left_wrist_0_rgb"].shape == (12, 20, 3)
    assert data["image_mask"] == {
        "base_0_rgb": False,
        "left_wrist_0_rgb": True,
        "right_wrist_0_rgb": False,
    }
    assert not data["image"]["base_0_rgb"].any()


def test_keys_may_nest_and_the_newest_is_seen() -> None:
    seen = observation()
    seen["top"] = np.stack([seen["hand"][0], seen["top"][0]])
    data = openpi_observation(seen, {"top": "images.cam_high"}, "robot.state")
    np.testing.assert_array_equal(data["images"]["cam_high"], seen["top"][1])
    np.testing.assert_array_equal(data["robot"]["state"], seen["proprio"][0])
    assert data.keys() == {"images", "robot"}


def test_a_camera_that_the_runtime_does_not_have_is_told() -> None:
    with pytest.raises(PolicyError, match="camera_map names tpo"):
        openpi_observation(observation(), {"tpo": "base_0_rgb"}, "state")


YAML = """model:
  component_config_paths:
    openpi_model: components/openpi_batched.yaml

policy:
  type: openpi_policy
"""
STEP_KEY = "  num_inference_steps: %d\n"
COMPONENT = """params:
  train_config_name: "pi0_tiny"
  ckpt_dir: "{folder}"
  default_prompt: "Pick up objects on the table with the left hand and place them into the box."
  action_dim: 3
  action_horizon: 6
  num_inference_steps: 10
"""


def write_policy(folder: Path, keys: str) -> Path:
    """A policy folder: a checkpoint, and the original YAML with more `keys`. Returns the YAML."""
    (folder / "components").mkdir(exist_ok=True)
    component = folder / "components" / "openpi_batched.yaml"
    component.write_text(COMPONENT.format(folder=write_checkpoint(folder, "pi0_tiny")))
    path = folder / "openpi_policy.yaml"
    path.write_text(YAML + keys)
    return path


@pytest.mark.usefixtures("openpi")
def test_the_original_yaml_s_keys_are_enough(tmp_path: Path) -> None:
    def chunk(keys: str) -> Any:
        return build_policy(write_policy(tmp_path, keys)).predict(observation(), UNUSED)

    chunks = [chunk(f"  seed: 3\n{key}") for key in ("", STEP_KEY % 10, STEP_KEY % 4)]
    assert chunks[0].shape == (H, A)
    np.testing.assert_array_equal(chunks[0], chunks[1])  # the component's own number
    assert not np.array_equal(chunks[0], chunks[2])


@pytest.mark.usefixtures("openpi")
def test_the_yaml_takes_a_flow_policys_keywords_and_no_other(tmp_path: Path) -> None:
    path = write_policy(tmp_path, "  compil: true\n")
    with pytest.raises(ConfigError, match=r"openpi_policy\.yaml: policy: .*'compil'"):
        build_policy(path)


@pytest.mark.usefixtures("openpi")
def test_the_example_s_keys_are_taken() -> None:
    example = Path(__file__).parents[1] / "configs/policies/openpi_pi05/policy.yaml"
    with pytest.raises(ConfigError, match="no train config 'pi05_igris'"):
        build_policy(example)


# --- what cannot be run is told before anything moves


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def other_weights(folder: Path) -> None:
    save_file({"head.bias": torch.zeros(2)}, folder / "model.safetensors")


def jax_checkpoint(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "params").mkdir()


def still_joint(folder: Path) -> None:
    path = folder / "assets" / "tiny_robot" / "norm_stats.json"
    path.write_text(path.read_text().replace("0.5", "0.0"))


def no_quantiles(folder: Path) -> None:
    path = folder / "assets" / "tiny_robot" / "norm_stats.json"
    path.write_text(path.read_text().replace("q99", "q9"))


NOTHING: dict[str, Any] = {}


@pytest.mark.usefixtures("openpi")
@pytest.mark.parametrize(
    ("name", "change", "damage", "error", "complaint"),
    [
        (
            "pi05_tiny",
            {"train_config_name": "pi05_tini"},
            None,
            ConfigError,
            "mean 'pi05_tiny'?.*K",
        ),
        ("pi05_tiny", {"train_config_name": "x"}, None, ConfigError, "pi0_tiny, pi0_flipped, pi05"),
        ("pi05_tiny", {"train_config_name": "pi0_fast_tiny"}, None, ConfigError, "jax alone"),
        ("pi05_tiny", {"train_config_name": "pi05_no_assets"}, None, ConfigError, "no asset_id"),
        ("pi05_tiny", {"ckpt_dir": "/nowhere"}, None, CheckpointError, "/nowhere is none"),
        ("pi05_tiny", NOTHING, jax_checkpoint, CheckpointError, "convert_jax_model_to_pytorch"),
        ("pi05_tiny", NOTHING, truncate, CheckpointError, "does not fit openpi's train config"),
        ("pi05_tiny", NOTHING, other_weights, CheckpointError, "Missing key"),
        (
            "pi05_tiny",
            NOTHING,
            lambda f: (f / "model.safetensors").unlink(),
            CheckpointError,
            "got none",
        ),
        (
            "pi05_tiny",
            NOTHING,
            lambda f: shutil.rmtree(f / "assets"),
            CheckpointError,
            "training stat",
        ),
        ("pi0_tiny", NOTHING, still_joint, ConfigError, r"std\[1\]: expected a number above 0"),
        ("pi05_tiny", NOTHING, no_quantiles, ConfigError, "expected a key 'q99'"),
        ("pi05_tiny", {"action_dim": 4}, None, ConfigError, "expected 4 numbers, got 3"),
        ("pi05_tiny", {"action_dim": 2}, None, PolicyError, "gives 3 joints, but action_dim is 2"),
        ("pi05_tiny", {"action_horizon": 50}, None, ConfigError, "has 6: set it"),
        ("pi05_tiny", {"state_dim": 1}, None, RtError, "state"),
        (
            "pi05_tiny",
            {"default_prompt": None},
            None,
            PolicyError,
            "Prompt is required.*default_pr",
        ),
        (
            "pi05_tiny",
            {"state_key": "state"},
            None,
            PolicyError,
            "observation/state.*mend camera_map",
        ),
        ("pi05_tiny", {"camera_map": {"top": "up"}}, None, PolicyError, "observation/image"),
        (
            "pi05_tiny",
            {"precision": "fp8"},
            None,
            ConfigError,
            "bfloat16 or float32, got text 'fp8'",
        ),
        ("pi0_flipped", NOTHING, None, PolicyError, "do more than undo the normalisation"),
    ],
)
def test_what_cannot_be_run_is_told(
    tmp_path: Path,
    name: str,
    change: dict[str, Any],
    damage: Any,
    error: type[Exception],
    complaint: str,
) -> None:
    folder = write_checkpoint(tmp_path, name)
    if damage is not None:
        damage(folder)
    with pytest.raises(error, match=complaint) as caught:
        OpenPiNetwork(**params(folder, name, **change))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("openpi")
def test_a_transformers_without_openpi_s_patches_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path, "pi05_tiny")

    def unpatched(self: Any, config: Any) -> None:
        raise ValueError("transformers_replace is not installed correctly.")

    module = import_module("openpi.models_pytorch.pi0_pytorch")
    monkeypatch.setattr(module.PI0Pytorch, "__init__", unpatched)
    with pytest.raises(PolicyError, match="cannot build 'pi05_tiny': transformers_replace"):
        OpenPiNetwork(**params(folder))


@pytest.mark.skipif(find_spec("openpi") is not None, reason="openpi is installed")
def test_without_openpi_the_pip_command_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match=r"pip install git\+https"):
        OpenPiNetwork(**params(tmp_path))


def test_an_openpi_that_cannot_be_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_openpi()
    (tmp_path / "openpi").mkdir()
    (tmp_path / "openpi" / "__init__.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingPackageError, match=r"cannot be imported.*a_package_that"):
        OpenPiNetwork(**params(tmp_path))
    forget_openpi()


# --- the real package, where it is: its own code of models, transforms and policies

REAL: dict[str, dict[str, Any]] = {
    "pi05_libero": {
        "action_dim": 7,
        "camera_map": {"top": "observation/image", "hand": "observation/wrist_image"},
        "state_key": "observation/state",
        "precision": "float32",
    },
    "pi0_aloha": {
        "action_dim": 14,
        "camera_map": {"top": "images.cam_high", "hand": "images.cam_left_wrist"},
        "precision": "bfloat16",
    },
}


@pytest.fixture
def real_openpi(monkeypatch: pytest.MonkeyPatch) -> None:
    """openpi with two train configs of our own, their transformers two layers deep."""
    pytest.importorskip("openpi", reason="openpi is not installed")
    configs = import_module("openpi.training.config")
    try:
        import_module("openpi.models.tokenizer").PaligemmaTokenizer()
    except Exception as error:
        pytest.skip(f"openpi's tokenizer can be had neither from its cache nor its server: {error}")
    gemma = import_module("openpi.models.gemma")

    def shallow(variant: str) -> Any:  # openpi's own "dummy" fits no vision tower in PyTorch
        width = 2048 if variant == "gemma_2b" else 64
        return gemma.Config(
            width=width, depth=2, mlp_dim=128, num_heads=8, num_kv_heads=1, head_dim=16
        )

    monkeypatch.setattr(gemma, "get_config", shallow)
    libero = configs.LeRobotLiberoDataConfig(repo_id="rt/check", extra_delta_transform=True)
    aloha = configs.LeRobotAlohaDataConfig(repo_id="rt/check", adapt_to_pi=False)
    for name, data in (("pi05_libero", libero), ("pi0_aloha", aloha)):
        pi05 = name == "pi05_libero"
        model = import_module("openpi.models.pi0_config").Pi0Config(
            pi05=pi05, pytorch_compile_mode=None
        )
        config = replace(configs.get_config("debug"), name=name, model=model, data=data)
        monkeypatch.setitem(configs._CONFIGS_DICT, name, config)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("real_openpi")
@pytest.mark.parametrize(("name", "atol"), [("pi05_libero", 1e-3), ("pi0_aloha", 0.1)])
def test_with_the_real_openpi_an_unguided_chunk_is_its_own(
    tmp_path: Path, name: str, atol: float
) -> None:
    """Random weights, a 2 GB file: minutes on a CPU."""
    A = REAL[name]["action_dim"]
    train_config = import_module("openpi.training.config").get_config(name)
    torch.manual_seed(0)
    model = import_module("openpi.models_pytorch.pi0_pytorch").PI0Pytorch(train_config.model)
    save_model(model, str(tmp_path / "model.safetensors"))
    del model
    statistics = {key: repeated(of, A) for key, of in stats().items()}
    import_module("openpi.shared.normalize").save(tmp_path / "assets" / "rt/check", statistics)
    network = OpenPiNetwork(
        train_config_name=name,
        ckpt_dir=str(tmp_path),
        action_horizon=50,
        default_prompt="tidy up",
        **REAL[name],
    ).eval()
    built: Any = OpenPiPolicy({"openpi_model": network}, num_inference_steps=2, seed=SEED)
    built.freeze_all_model_params()
    seen = observation()
    seen["proprio"] = np.resize(seen["proprio"], (1, A))
    free = built.predict(seen, UNUSED)
    top, hand, state = seen["top"][-1], seen["hand"][-1], seen["proprio"][-1]
    data = {
        "pi05_libero": {
            "observation/image": top,
            "observation/wrist_image": hand,
            "observation/state": state,
        },
        "pi0_aloha": {"images": {"cam_high": top, "cam_left_wrist": hand}, "state": state},
    }
    theirs = openpi_s_own(network, data[name], seeded_noise(50, 32), 2, "tidy up")
    ranges = np.resize([2.0, 0.5, 0.1], A)
    np.testing.assert_allclose(free / ranges, theirs / ranges, atol=atol)
    assert np.ptp(theirs / ranges, axis=0).min() > 10 * atol
    leftover = free + 2 * ranges.astype(np.float32)
    guided = seen | {"prev_action": leftover, "est_delay": 5}
    pulled = built.guided_inference(guided, UNUSED, 25, 50)
    assert np.all(abs(pulled - leftover)[:5] < 0.5 * abs(free - leftover)[:5] + 0.1 * ranges)


def repeated(of: Any, dims: int) -> Any:
    """Statistics of three joints, repeated to `dims`."""
    fields = {name: np.resize(getattr(of, name), dims) for name in ("mean", "std", "q01", "q99")}
    return type(of)(**fields)
