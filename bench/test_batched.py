"""Chunks of several robots in one forward, beside one at a time, by turns in the same run.

Whole chunks: from each robot's arrays to an array of actions. Each robot has its own state, images,
leftover, d and s. On CUDA, where there is a device, in bfloat16 and with the loop recorded; else on
the CPU as it is, with one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pi05_shapes import PI05, SMALL, Pi05Shaped
from ratio import Ratio, ratio
from results import keep
from test_denoise import demo

from rt.infer.example import example_input
from rt.infer.normalization import Normalizer
from rt.infer.policies.flow import FlowPolicy

SIZES = (1, 2, 4, 8, 16)
Ask = tuple[dict[str, Any], int]
PLAIN = Normalizer.identity()
CUDA = torch.cuda.is_available()
DEVICE = torch.cuda.get_device_name() if CUDA else "one CPU thread"
HOW = {"bf16": CUDA, "cuda_graph": CUDA}
pytestmark = pytest.mark.timeout(0)  # recording 3 billion weights' layers at each size takes long


def transformer() -> Any:
    """A transformer of π0.5's shapes; on the CPU, of its proportions."""
    return Pi05Shaped(PI05 if CUDA else SMALL)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """See bench/test_denoise.py."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("network", [demo, transformer])
def test_several_robots_at_once_beside_one_at_a_time(  # type: ignore[no-untyped-def]
    benchmark, network: Any, long: bool
) -> None:
    if network is transformer and not (long or CUDA):
        pytest.skip("is measured by make bench: it takes minutes")
    torch.manual_seed(0)
    with torch.device("cuda" if CUDA else "cpu"):
        built = network().eval()
    policy = FlowPolicy({"flow": built}, num_inference_steps=5, seed=0, **HOW)
    policy.freeze_all_model_params()
    sizes, H = SIZES if long else (1, 4), built.action_horizon
    policy.warmup_many(max(sizes))
    found: dict[str, dict[int, Ratio]] = {}
    for way in ("unguided", "guided"):
        asks = robots(built, max(sizes), guided=way == "guided")
        what = f"chunks, {network.__name__}, {way}, {DEVICE}"
        found[way] = {size: gain(policy, asks[:size], H, what, long) for size in sizes}
    benchmark.pedantic(policy.infer_many, (asks, PLAIN), rounds=3)
    keep("batched", device=DEVICE, **{network.__name__: found})
    assert all(gains[max(sizes)].median > 1 for gains in found.values())


def gain(policy: FlowPolicy, asks: list[Ask], H: int, what: str, long: bool) -> Ratio:
    """How many times as long the robots wait, one at a time, as together."""

    def one_at_a_time() -> None:
        for seen, executed in asks:
            policy.guided_inference(seen, PLAIN, executed, H)

    def together() -> None:
        chunks = policy.infer_many(asks, PLAIN)
        assert all(isinstance(chunk, np.ndarray) for chunk in chunks)

    found = ratio(one_at_a_time, together, pairs=11 if long else 5)
    found.report(f"{len(asks)} {what}", "one at a time", "together")
    return found


def robots(network: Any, count: int, *, guided: bool) -> list[Ask]:
    """What each asks: (input_data, s)."""
    random = np.random.default_rng(0)
    asks = []
    for i in range(count):
        seen = example_input(network)
        seen["proprio"] = random.standard_normal(seen["proprio"].shape).astype(np.float32)
        shape = network.action_horizon, network.action_dim
        leftover = random.standard_normal(shape).astype(np.float32)
        tie = {"prev_action": leftover, "est_delay": i % 8}
        asks.append((seen | tie if guided else seen, 20 + i))
    return asks
