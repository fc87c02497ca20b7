"""A network run fast gives what it gives when it is run plainly."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import cache_dir

from rt.errors import PolicyError
from rt.infer.acceleration import cast_once, compile_cache, set_compile_cache
from rt.infer.cuda_graph import KEPT, Recorder, Recording, Run
from rt.infer.denoising import Guide
from rt.infer.normalization import Normalizer
from rt.infer.pinned import pinned_zeros
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policy import GuidanceOptions

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
H, A = 8, 3
PLAIN = Normalizer.identity()


class Attention(nn.Module):
    """A flow network with every kind of layer that autocast treats in a way of its own."""

    camera_names = ("head",)
    image_height = image_width = 8
    row_times = True
    action_horizon, action_dim, state_dim = H, A, 2

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Conv2d(3, 4, 3)
        self.context = nn.Linear(4 + 2, 16)
        self.into, self.norm, self.out = nn.Linear(A, 16), nn.LayerNorm(16), nn.Linear(16, A)

    def encode(self, observation: dict[str, Any]) -> dict[str, Any]:
        seen = self.eye(observation["head"][:, 0].float() / 255).mean((2, 3))
        context = self.context(torch.cat([seen.float(), observation["proprio"][:, -1]], -1))
        return {"cache": [(context, context.tanh())], "rows": H}

    def velocity(self, context: dict[str, Any], x: Tensor, tau: Tensor) -> Tensor:
        ((key, value),) = context["cache"]
        rows = tau if tau.ndim == 2 else tau[:, None].expand(x.shape[:2])
        tokens = self.into(x) + rows[..., None]
        keys, values = (torch.cat([tokens, a[:, None].to(tokens)], 1) for a in (key, value))
        seen = nn.functional.scaled_dot_product_attention(tokens, keys, values)
        return torch.as_tensor(self.out(self.norm(tokens + seen)))


def observation(seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "proprio": random.standard_normal((1, 2)).astype(np.float32),
        "head": random.integers(0, 256, (1, 3, 8, 8), np.uint8),
    }


def guide(seed: int = 0, **options: Any) -> dict[str, Any]:
    leftover = np.random.default_rng(seed).standard_normal((H, A)).astype(np.float32)
    guidance = GuidanceOptions(**options)
    return {"prev_action": leftover, "est_delay": seed % H, "guidance": guidance}


WAYS: dict[str, dict[str, Any]] = {
    "free": {},
    "vjp": guide(2),
    "identity": guide(2, vjp=False),
    "prefix": guide(2, prefix=True),
}


def policy(device: str = "cpu", **how: bool) -> FlowPolicy:
    torch.manual_seed(0)
    built = FlowPolicy({"flow": Attention().to(device).eval()}, seed=1, **how)
    built.freeze_all_model_params()
    return built


# --- bfloat16


@pytest.mark.parametrize("way", WAYS)
def test_bfloat16_rounds_and_no_more(way: str) -> None:
    full, half = (
        policy(bf16=bf16).guided_inference(observation() | WAYS[way], PLAIN, 2, H)
        for bf16 in (False, True)
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.05 * np.abs(full).max()


def test_casting_once_is_what_autocast_does_each_time() -> None:
    torch.manual_seed(0)
    network = Attention().requires_grad_(False)
    x, tau = torch.randn(1, H, A), torch.rand(1)
    seen = {
        "proprio": torch.randn(1, 1, 2),
        "head": torch.randint(0, 256, (1, 1, 3, 8, 8), dtype=torch.uint8),
    }
    answers = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            answers.append(network.velocity(network.encode(seen), x, tau))
        cast_once(network)
    assert network.into.weight.dtype == network.eye.bias.dtype == torch.bfloat16
    assert network.norm.weight.dtype == torch.float32
    assert torch.equal(*answers)


def test_a_weight_that_an_embedding_shares_is_not_cast() -> None:
    words, head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    head.weight = words.weight
    cast_once(nn.ModuleList([words, head]))
    assert words.weight.dtype == torch.float32


# --- the compile cache


def test_what_is_compiled_is_kept_in_the_user_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back afterwards
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    policy(compile=True)
    assert cache_dir() == str(tmp_path / "rt" / "compiled")
    assert compile_cache().is_dir()


def test_the_user_s_own_choice_of_a_compile_cache_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    set_compile_cache()
    assert cache_dir() == str(tmp_path / "mine")


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_without_a_proper_xdg_cache_home_it_is_in_the_home(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compile_cache() == tmp_path / ".cache" / "rt" / "compiled"


def test_a_home_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "before"))
    set_compile_cache()
    assert cache_dir() == str(tmp_path / "before")


# --- recording and replaying, with a recording that runs the function again


class Tape:
    """Stands in for CUDA: replays by running the function on the recorded inputs' new values."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, run: Run) -> Recording:
        self.recorded += 1
        result = run().clone()

        def replay() -> None:
            result.copy_(run())

        return replay, result


def weighted(context: dict[str, Any], x: Tensor, weights: Tensor | None, power: int) -> Tensor:
    (key, value), scale = context["cache"], context["scale"]
    out = scale * (key * x + value) ** power
    return out if weights is None else out * weights


def arguments(seed: int, rows: int = 3) -> tuple[dict[str, Any], Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    key, value, x, weights = torch.randn(4, rows, generator=random)
    return {"cache": (key, value), "scale": 2.0}, x, weights


def test_a_recording_serves_every_value_and_writes_over_nothing() -> None:
    tape = Tape()
    recorder = Recorder(weighted, tape)
    first = recorder(*arguments(0), 2)
    kept = first.clone()
    for seed in range(1, 5):
        got = recorder(*arguments(seed), 2)
        assert torch.equal(got, weighted(*arguments(seed), 2))
    assert torch.equal(first, kept)
    assert tape.recorded == 1


def test_a_recording_leaves_its_arguments_alone() -> None:
    given, seen = arguments(0), arguments(0)
    recorder = Recorder(weighted, Tape())
    recorder(*given, 2)
    recorder(*arguments(1), 2)
    assert torch.equal(given[1], seen[1])
    assert torch.equal(given[0]["cache"][0], seen[0]["cache"][0])


def test_another_shape_structure_or_plain_value_is_another_recording() -> None:
    tape = Tape()
    recorder = Recorder(weighted, tape)
    context, x, weights = arguments(0)
    others: list[tuple[Any, ...]] = [
        (context, x, weights, 2),
        (context, x, None, 2),
        (context, x, weights, 3),
        (context | {"scale": 3.0}, x, weights, 2),
        (*arguments(0, rows=4), 2),
        (context, x.double(), weights, 2),
    ]
    for count, other in enumerate(others, 1):
        assert torch.equal(recorder(*other), weighted(*other))
        assert tape.recorded == count
    for other in others:
        assert torch.equal(recorder(*other), weighted(*other))
    assert tape.recorded == len(others)


def test_only_so_many_recordings_are_kept() -> None:
    tape = Tape()
    recorder = Recorder(weighted, tape)
    for power in range(KEPT + 1):
        recorder(*arguments(0), power)
    recorder(*arguments(0), KEPT)
    assert tape.recorded == KEPT + 1
    recorder(*arguments(0), 0)  # the oldest was forgotten
    assert tape.recorded == KEPT + 2


def test_a_context_whose_tensors_cannot_be_found_is_refused() -> None:
    class Cache:
        keys = torch.zeros(3)

    with pytest.raises(PolicyError, match=r"a Cache in the context .*cuda_graph: false"):
        Recorder(weighted, Tape())(Cache(), torch.zeros(3), None, 2)


@pytest.mark.parametrize("way", WAYS)
def test_without_cuda_a_wish_for_a_cuda_graph_changes_nothing(way: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    plain, recorded = (
        policy(cuda_graph=wish).guided_inference(observation() | WAYS[way], PLAIN, 2, H)
        for wish in (False, True)
    )
    np.testing.assert_array_equal(plain, recorded)


# --- CUDA itself


@needs_cuda
@pytest.mark.parametrize("way", WAYS)
def test_a_cuda_graph_gives_what_the_loop_gives(way: str) -> None:
    plain, recorded = (policy("cuda", cuda_graph=wish, tf32=False) for wish in (False, True))
    for seed in range(4):
        given = observation(seed) | WAYS[way]
        if way != "free":
            options = WAYS[way]["guidance"]
            given |= guide(seed, vjp=options.vjp, prefix=options.prefix)
        want = plain.guided_inference(dict(given), PLAIN, 2, H)
        got = recorded.guided_inference(dict(given), PLAIN, 2, H)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@needs_cuda
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_device_is_waited_for_once_a_chunk(way: str, cuda_graph: bool) -> None:
    fast: Any = policy("cuda", cuda_graph=cuda_graph)
    fast.guided_inference(observation() | WAYS[way], PLAIN, 2, H)
    options = WAYS[way].get("guidance", GuidanceOptions())
    tied = Guide(torch.zeros(H, A, device="cuda"), torch.ones(H, A, device="cuda"))
    guide = None if way == "free" else tied
    with torch.inference_mode():
        context = fast._fast.encode(
            {k: torch.tensor(v, device="cuda")[None] for k, v in observation().items()}
        )
        noise = torch.randn(1, H, A, device="cuda")
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            fast._fast.denoise(context, noise, guide, options)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@needs_cuda
def test_a_network_that_waits_for_the_device_cannot_be_recorded() -> None:
    class Waiting(Attention):
        def velocity(self, context: dict[str, Any], x: Tensor, tau: Tensor) -> Tensor:
            return super().velocity(context, x, tau) * float(tau.sum())

    waiting = FlowPolicy({"flow": Waiting().to("cuda").eval()}, cuda_graph=True)
    with pytest.raises(PolicyError, match="cuda_graph: false"):
        waiting.predict(observation(), PLAIN)


@needs_cuda
def test_pinned_memory_is_pinned() -> None:
    frames = pinned_zeros(2, np.dtype([("t", "i8"), ("image", "u1", (3, 4, 5))]))
    assert frames.shape == (2,)
    assert torch.from_numpy(frames["image"][:1]).is_pinned()
    images = pinned_zeros(2, frames.dtype["image"])
    assert images.shape == (2, 3, 4, 5)
    assert torch.from_numpy(images).is_pinned()
