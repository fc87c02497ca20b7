"""The denoising loop, guided beside unguided, in alternated rounds of the same run.

One guided step is one forward and one backward by x alone: 2.0 times a forward's arithmetic. The
published loop takes 2.5 times as long guided (14 → 35 ms, π0.5, n = 5, arXiv 2506.07339).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from budgets import judge
from pi05_shapes import SMALL, Pi05Shaped
from ratio import ratio
from results import keep

from rt.infer.acceleration import Acceleration, FastNetwork
from rt.infer.denoising import Guide
from rt.infer.inpainting import compute_guided_prefix_weights
from rt.infer.policies.flow_model import FlowModel
from rt.infer.policy import GuidanceOptions

STEPS = 5
DEMO = Path(__file__).parents[1] / "configs/policies/flow_demo/components/flow.yaml"
CPU = torch.device("cpu")
# torch's compiler imports what torch has since deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")


def demo() -> Any:
    """The demonstration policy's network."""
    return FlowModel(**yaml.safe_load(DEMO.read_text())["params"])


def transformer() -> Any:
    """A transformer of π0.5's proportions."""
    return Pi05Shaped(SMALL)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two wait for each other at every layer: when another process has one of the cores, as on a
    small machine it will, both ratios are that process's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()  # compiled code keeps the number of threads that it was made for
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("network", [demo, transformer])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_guidance_costs_one_backward(  # type: ignore[no-untyped-def]
    benchmark, network: Any, compiled: bool, long: bool
) -> None:
    if not (long or compiled):
        pytest.skip("is measured by make bench: it has no budget")
    torch.manual_seed(0)
    built = network().eval().requires_grad_(False)
    fast = FastNetwork(built, STEPS, CPU, Acceleration(compile=compiled))
    H, A = built.action_horizon, built.action_dim
    weights = torch.from_numpy(compute_guided_prefix_weights(5, 25, H))
    with torch.inference_mode():
        context = built.encode(observation(built))
        noise, guide = torch.randn(1, H, A), Guide(torch.randn(H, A), weights)

        def free() -> None:
            fast.denoise(context, noise, None, GuidanceOptions())

        def guided() -> None:
            fast.denoise(context, noise, guide, GuidanceOptions())

        def identity() -> None:
            fast.denoise(context, noise, guide, GuidanceOptions(vjp=False))

        for call in (free, guided, identity):
            call()  # compiles
        benchmark.pedantic(guided, rounds=3)
        pairs = 41 if long else 9
        found = {way.__name__: ratio(way, free, pairs=pairs) for way in (guided, identity)}
    how = "compiled" if compiled else "eager"
    for name, figures in found.items():
        figures.report(f"denoising, {network.__name__}, {how}, n = {STEPS}", name, "unguided")
    keep("denoising", **{f"{network.__name__} {how}": found})
    if compiled:
        for name, figures in found.items():
            judge(f"denoise.{network.__name__}.{name}", figures.pairs)


def observation(network: Any) -> dict[str, torch.Tensor]:
    """A random one, with a batch axis."""
    if isinstance(network, Pi05Shaped):
        given = network.example_observation()
        return {name: torch.from_numpy(value)[None] for name, value in given.items()}
    images = {
        name: torch.randint(0, 256, (1, 1, 3, 240, 320), dtype=torch.uint8)
        for name in network.camera_names
    }
    return {"proprio": torch.randn(1, 1, network.state_dim), **images}
