"""Weights on their way into a model: all or none, in place, and never held twice."""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_flow import TinyFlow
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from rt.errors import CheckpointError
from rt.infer import build_policy
from rt.infer.checkpoint import UnfilledWeights, load_checkpoint, load_weights
from rt.infer.example import random_observation
from rt.infer.loader import build_component
from rt.infer.normalization import Normalizer
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policy_config import load_policy_config

# 51 MB a layer: glibc gives what is above 32 MB back to the kernel as soon as it is freed.
LAYERS, WIDTH = 4, 3584
MODEL_BYTES = LAYERS * WIDTH * WIDTH * 4


class Large(nn.Module):
    """Enough weights to be seen in the process's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))


class Tied(nn.Module):
    """Two names for one tensor, and a table that is in no checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
        self.head.weight = self.embed.weight
        table = torch.empty(64).normal_(generator=torch.Generator().manual_seed(0))
        self.register_buffer("table", table, persistent=False)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(model: nn.Module, want: dict[str, Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, want[name]), name


# --- all or none


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_floats_are_cast_to_the_model_s_dtype(dtype: torch.dtype) -> None:
    new = {name: value.to(dtype) for name, value in values(TinyFlow()).items()}
    model = TinyFlow()
    load_weights(model, new, "new")
    assert_same(model, {name: value.float() for name, value in new.items()})


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_what_is_no_float_is_refused_for_one(dtype: torch.dtype) -> None:
    model = TinyFlow()
    with pytest.raises(
        CheckpointError, match=rf"dtype: linear\.weight {dtype} instead of torch\.float32"
    ):
        load_weights(model, {**values(model), "linear.weight": torch.ones(2, 2).to(dtype)}, "new")


def test_a_count_takes_no_float() -> None:
    model = nn.BatchNorm1d(2)
    new = {name: value.float() for name, value in values(model).items()}
    with pytest.raises(CheckpointError, match=r"num_batches_tracked torch\.float32 instead"):
        load_weights(model, new, "new")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layers.7.weight": None}, "missing: layers.7.weight"),
        ({"zzz": torch.zeros(1)}, "unexpected: zzz"),
        ({"layers.7.weight": torch.zeros(2, 3)}, r"layers.7.weight \(2, 3\) instead of \(2, 2\)"),
        ({"layers.7.weight": torch.zeros(2, 2).int()}, "layers.7.weight torch.int32 instead of"),
        ({"layers.7.weight": 3.0}, "expected a state_dict"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change: dict[str, Any], told: str) -> None:
    model = nn.Module()
    model.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(8))
    before = values(model)
    new = {name: torch.full_like(value, 7.0) for name, value in before.items()} | change
    with pytest.raises(CheckpointError, match=f"^new weights.*{told}"):
        load_weights(model, {name: v for name, v in new.items() if v is not None}, "new weights")
    assert_same(model, before)


def test_many_names_are_told_by_the_first_and_their_number() -> None:
    with pytest.raises(
        CheckpointError,
        match=r"missing: linear\.weight, offset; unexpected: a0, a1, a2, a3, a4 and 3 more: take",
    ):
        load_weights(TinyFlow(), {f"a{i}": torch.zeros(1) for i in range(8)}, "new")


def test_of_a_shared_tensor_one_name_will_do(tmp_path: Path) -> None:
    new = torch.arange(6.0).view(3, 2)
    for name in ("embed.weight", "head.weight"):
        model = Tied()
        save_file({name: new}, tmp_path / "tied.safetensors")
        load_checkpoint(model, tmp_path, "tied")
        assert torch.equal(model.head.weight, new)
        assert model.head.weight is model.embed.weight
    with pytest.raises(CheckpointError, match=r"missing: embed\.weight, head\.weight: take"):
        load_weights(Tied(), {}, "new")


# --- into a policy that runs


@pytest.mark.parametrize("compiled", [False, True])
def test_a_running_policy_goes_on_with_new_weights_where_the_old_ones_were(
    monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    # Traced as ever; only the generated code, which takes a C++ compiler half a minute, is spared.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()  # another test's graphs

    def flow(seed: int) -> FlowPolicy:
        torch.manual_seed(seed)
        policy = FlowPolicy({"flow": TinyFlow().eval()}, seed=0, compile=compiled)
        policy.freeze_all_model_params()
        return policy

    def chunks(policy: FlowPolicy) -> Any:
        seen = random_observation(network(policy)) | {"est_delay": 2, "prev_action": leftover}
        return policy.guided_inference(seen, Normalizer.identity(), 1, len(leftover))

    def network(policy: Any) -> nn.Module:
        model: nn.Module = policy._network
        return model

    leftover = np.ones((6, 2), np.float32)
    old, new = flow(0), flow(1)
    before = chunks(old)
    addresses = [value.data_ptr() for value in network(old).state_dict().values()]
    load_weights(network(old), network(new).state_dict(), "new")
    counters.clear()
    assert [value.data_ptr() for value in network(old).state_dict().values()] == addresses
    assert not any(p.requires_grad for p in network(old).parameters())
    went_on = chunks(old)
    assert not counters["stats"]  # nothing was compiled again
    chunks(new)  # both have now drawn the same noise
    np.testing.assert_array_equal(went_on, after := chunks(new))
    assert not np.array_equal(before, after)


# --- never held twice


class Peak(TorchDispatchMode):
    """The largest anonymous memory of this process after any of torch's operations, bytes."""

    def __init__(self) -> None:
        super().__init__()
        gc.collect()  # nothing of earlier tests is to go meanwhile
        self._start, self.bytes = anonymous(), 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.bytes = max(self.bytes, anonymous() - self._start)
        return out


def anonymous() -> int:
    """Memory that is no file's: what a mapped checkpoint takes the kernel may drop at any time."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) * 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`large(".pt")`: a policy YAML with a checkpoint of `Large`, all ones."""
    with Peak():
        torch.ones(1).add_(1)  # what torch imports for this is no model's memory

    def write(suffix: str) -> Path:
        folder = tmp_path_factory.mktemp("large")
        ones = {f"layers.{i}.weight": torch.ones(WIDTH, WIDTH) for i in range(LAYERS)}
        save: Any = torch.save if suffix == ".pt" else save_file
        save(ones, folder / f"flow{suffix}")
        (folder / "flow.yaml").write_text("class: test_weight_transfer.Large\n")
        path = folder / "policy.yaml"
        path.write_text(
            "model: {component_config_paths: {flow: flow.yaml}}\n"
            "policy: {type: flow}\ncheckpoint_path: .\n"
        )
        return path

    return write


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_host_holds_the_weights_once(large: Callable[[str], Path], suffix: str) -> None:
    config = load_policy_config(large(suffix))
    with Peak() as peak:
        model = build_component(config, "flow", FlowPolicy, "cpu")
    assert all(bool((weight == 1).all()) for weight in model.parameters())
    assert 0.8 * MODEL_BYTES < peak.bytes < 1.2 * MODEL_BYTES
    del model
    with Peak() as naive:  # the control: a file that is read is held beside the model
        read = {f"layers.{i}.weight": torch.ones(WIDTH, WIDTH) for i in range(LAYERS)}
        load_weights(Large(), read, "memory")
    assert naive.bytes > 1.8 * MODEL_BYTES


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_host_holds_nothing_of_a_model_on_another_device(
    large: Callable[[str], Path], suffix: str
) -> None:
    """`meta` stands for the other device: what is moved there is no longer here."""
    config = load_policy_config(large(suffix))
    with warnings.catch_warnings(action="ignore"), Peak() as peak:  # torch: meta keeps no values
        model = build_component(config, "flow", FlowPolicy, "meta")
    assert all(weight.is_meta for weight in model.parameters())
    assert peak.bytes < 0.2 * MODEL_BYTES


def test_the_device_holds_the_weights_once(large: Callable[[str], Path]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    config = load_policy_config(large(".safetensors"))
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model = build_component(config, "flow", FlowPolicy, "cuda")
    new = {name: torch.zeros_like(w, device="cpu") for name, w in model.state_dict().items()}
    load_weights(model, new, "new")
    assert torch.cuda.max_memory_allocated() - before <= 1.05 * MODEL_BYTES
    assert not any(bool(weight.any()) for weight in model.parameters())


def test_a_checkpoint_of_before_torch_1_6_cannot_be_mapped_and_is_read(tmp_path: Path) -> None:
    want = values(TinyFlow())
    torch.save(want, tmp_path / "flow.pt", _use_new_zipfile_serialization=False)
    model = TinyFlow()
    load_checkpoint(model, tmp_path, "flow")
    assert_same(model, want)


# --- built unfilled


def test_only_parameters_are_left_unfilled() -> None:
    kinds = (nn.Linear(8, 8), nn.Conv2d(3, 3, 3), nn.Embedding(8, 8), nn.LSTM(4, 4))
    table = Tied().table
    with UnfilledWeights():
        state = torch.get_rng_state()
        for kind in kinds:
            kind.reset_parameters()  # type: ignore[operator]
        assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
        assert torch.equal(Tied().table, table)  # a buffer was
    before = kinds[0].weight.clone()
    kinds[0].reset_parameters()
    assert not torch.equal(kinds[0].weight, before)


def test_a_component_without_a_checkpoint_is_filled(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("class: tiny_flow.TinyFlow\n")
    path = tmp_path / "policy.yaml"
    path.write_text("model: {component_config_paths: {flow: flow.yaml}}\npolicy: {type: flow}\n")
    torch.manual_seed(0)
    want = values(TinyFlow())
    torch.manual_seed(0)
    built: Any = build_policy(path)
    assert_same(built._network, want)
