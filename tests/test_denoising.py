"""The denoising loop as it is run: clean prefixes, one graph for all chunks, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from tiny_flow import TinyFlow
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from two_ways import TwoWays

from rt.errors import PolicyError
from rt.infer.denoising import Guide, guided_denoise, guided_step, prefix_denoise
from rt.infer.normalization import Normalizer
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policy import GuidanceOptions

H, A, STEPS = 6, 2, 4
PLAIN = Normalizer.identity()


def velocity(x: Tensor, tau: Tensor) -> Tensor:
    """Every row sees every other; tau is (B,) or (B, H)."""
    rows = tau[:, None] if tau.ndim == 1 else tau
    return torch.tanh(x).mean(1, keepdim=True) - 0.5 * x + rows[..., None]


def sample(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Noise (1, H, A) and a leftover (H, A)."""
    random = torch.Generator().manual_seed(seed)
    noise, leftover = (torch.randn(1 + i, H, A, dtype=dtype, generator=random) for i in (0, 0))
    return noise, leftover[0]


# --- the clean prefix


def prefix_reference(noise: Any, leftover: Any, d: int) -> Any:
    """Equation 1 row by row in numpy, where the first d rows are the leftover's, at tau = 1."""
    x = noise[0].copy()
    x[:d] = leftover[:d]
    for step in range(STEPS):
        tau = np.where(np.arange(H) < d, 1.0, step / STEPS)
        v = np.tanh(x).mean(0, keepdims=True) - 0.5 * x + tau[:, None]
        x[d:] += v[d:] / STEPS
    return x


@pytest.mark.parametrize("d", [0, 1, 3, H])
@pytest.mark.parametrize("per_joint", [False, True])
def test_frozen_rows_stay_clean_and_the_others_flow_beside_them(d: int, per_joint: bool) -> None:
    noise, leftover = sample(0)
    weights = (torch.arange(H) < d).float()
    if per_joint:  # a last joint that is padding, pulled nowhere
        weights = weights[:, None] * torch.tensor([1.0, 0.0])
        leftover[:, 1] = torch.nan
    got = prefix_denoise(velocity, noise, STEPS, Guide(leftover, weights))
    want = prefix_reference(noise.numpy(), leftover.nan_to_num().numpy(), d)
    np.testing.assert_allclose(got[0].numpy(), want, rtol=1e-12)


def test_what_the_leftover_holds_behind_the_prefix_is_never_looked_at() -> None:
    noise, leftover = sample(1)
    weights = torch.tensor([1.0, 1.0, 0, 0, 0, 0])
    want = prefix_denoise(velocity, noise, STEPS, Guide(leftover, weights))
    leftover[2:] = torch.nan
    got = prefix_denoise(velocity, noise, STEPS, Guide(leftover, weights))
    assert torch.equal(got, want)


def test_a_clean_prefix_of_another_shape_is_told() -> None:
    noise, leftover = sample(1)
    with pytest.raises(PolicyError, match=r"leftover .*got \(5, 2\)"):
        prefix_denoise(velocity, noise, STEPS, Guide(leftover[1:], torch.ones(H)))


# --- dtypes and devices


@pytest.mark.parametrize("vjp", [True, False])
def test_x_keeps_its_dtype_whatever_the_network_answers_in(vjp: bool) -> None:
    noise, leftover = sample(2, torch.float32)
    weights = torch.ones(H)

    def coarse(x: Tensor, tau: Tensor) -> Tensor:
        return velocity(x, tau).bfloat16()

    free = guided_denoise(coarse, noise, STEPS)
    guided = guided_denoise(coarse, noise, STEPS, Guide(leftover, weights), vjp=vjp)
    clean = prefix_denoise(coarse, noise, STEPS, Guide(leftover, weights * 0))
    assert free.dtype == guided.dtype == clean.dtype == torch.float32
    torch.testing.assert_close(free, clean)
    torch.testing.assert_close(free, guided_denoise(velocity, noise, STEPS), atol=0.02, rtol=0)


class Operations(TorchDispatchMode):
    """Every operation that is run, and the kinds of device that its tensors are on."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.devices: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in pytree.tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        self.names.add(str(function).split(".")[1])
        self.devices |= {tensor.device.type for tensor in tensors}
        return result


CROSSING = {"_to_copy", "copy_", "lift_fresh", "lift_fresh_copy", "_local_scalar_dense", "item"}


@pytest.mark.parametrize("way", ["free", "vjp", "identity", "prefix", "control"])
def test_nothing_crosses_between_host_and_device_in_the_loop(way: str) -> None:
    noise = torch.empty(1, H, A, device="meta")
    guide = Guide(torch.empty(H, A, device="meta"), torch.empty(H, device="meta"))

    def crossing(x: Tensor, tau: Tensor) -> Tensor:
        return velocity(x, tau) * torch.tensor(1.0)

    with Operations() as run:
        if way == "prefix":
            prefix_denoise(velocity, noise, STEPS, guide)
        elif way in ("vjp", "identity"):
            guided_denoise(velocity, noise, STEPS, guide, vjp=way == "vjp")
        else:
            guided_denoise(crossing if way == "control" else velocity, noise, STEPS)
    crossed = run.devices != {"meta"} or bool(run.names & CROSSING)
    assert crossed == (way == "control"), run.names


# --- one graph


class TinyPrefixFlow(TinyFlow):
    """TinyFlow with one time for each row."""

    row_times = True

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        tau = tau if tau.ndim == 2 else tau[:, None].expand(x.shape[:2])
        return torch.tanh(self.linear(x)) + context[:, None] + tau[..., None]


def observation(**more: Any) -> dict[str, Any]:
    random = np.random.default_rng()
    head = random.integers(0, 256, (1, 3, 4, 6), np.uint8)
    return {"proprio": random.standard_normal((1, A), np.float32), "head": head, **more}


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """Counts the graphs that torch.compile traces; generating code would take a minute."""
    torch._dynamo.reset()
    counted = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counted, fullgraph=True))
    yield counted
    torch._dynamo.reset()


def all_guides() -> Iterator[dict[str, Any]]:
    for d, schedule in product((0, 2, H), ("exp", "linear", "ones", "zeros")):
        leftover = np.random.default_rng(d).standard_normal((H, A)).astype(np.float32)
        yield {"prev_action": leftover, "est_delay": d, "schedule": schedule}


@pytest.mark.parametrize("steps", [1, 5])
def test_no_value_compiles_anything_again(counter: CompileCounterWithBackend, steps: int) -> None:
    policy = FlowPolicy({"flow": TinyPrefixFlow()}, num_inference_steps=steps, compile=True)
    policy.freeze_all_model_params()
    policy.warmup()
    assert counter.frame_count == 4  # encode; a step: free, guided, clean prefix
    identity = GuidanceOptions(vjp=False)
    guide = next(all_guides()) | {"guidance": identity}
    policy.guided_inference(observation(**guide), PLAIN, 1, H)
    assert counter.frame_count == 5
    for guide in all_guides():
        schedule = guide.pop("schedule")
        policy.predict(observation(), PLAIN)
        for beta, vjp, s in product((5.0, 1.5), (True, False), (0, 3, H)):
            options = GuidanceOptions(schedule, beta, vjp)
            policy.guided_inference(observation(**guide, guidance=options), PLAIN, s, H)
        options = GuidanceOptions(prefix=True)
        policy.guided_inference(observation(**guide, guidance=options), PLAIN, 1, H)
    assert counter.frame_count == 5


def test_the_number_of_steps_compiles_nothing_again(counter: CompileCounterWithBackend) -> None:
    step = torch.compile(guided_step)
    seen = set()
    with torch.inference_mode():
        noise, leftover = sample(3)
        for n in (5, 10, 7):
            guided_denoise(velocity, noise, n, Guide(leftover, torch.ones(H)), step=step)
            seen.add(counter.frame_count)
    assert len(seen) == 1


@pytest.mark.parametrize("guided", [False, True])
def test_encode_runs_once_a_chunk_and_velocity_once_a_step(guided: bool) -> None:
    network = TwoWays(action_horizon=H, action_dim=A)
    calls: list[Tensor] = []
    plain: Callable[..., Tensor] = network.velocity
    network.velocity = lambda *given: (calls.append(given[2]), plain(*given))[1]  # type: ignore
    policy = FlowPolicy({"flow": network}, num_inference_steps=STEPS)
    guide = {"prev_action": np.ones((H, A), np.float32), "est_delay": 2} if guided else {}
    policy.guided_inference(observation(**guide), PLAIN, 1, H)
    assert network.encoded == 1
    assert torch.cat(calls).tolist() == [step / STEPS for step in range(STEPS)]
