"""The delta expert over SmolVLA's prefix: lerobot's own code with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tiny_smolvla import ACTION_DIM, HORIZON, MODEL_DIM, STATE_DIM

from rt.infer import build_policy
from rt.infer.delta_expert import DeltaExpert
from rt.infer.normalization import Normalizer
from rt.infer.policies.delta_flow import DeltaFlow, DeltaFlowPolicy
from rt.infer.second_expert import second_expert

VLM = "policy.model.vlm_with_expert.vlm"
NOT_USED = Normalizer.identity()  # the runtime's: the checkpoint has its own
WriteYaml = Callable[..., Path]
Correction = Literal["replace", "add"]


def components(policy_yaml: WriteYaml, checkpoint: Path, correction: Correction) -> dict[str, Any]:
    policy: Any = build_policy(policy_yaml(checkpoint))
    network = policy._network
    torch.manual_seed(1)
    expert = second_expert(network, [VLM])
    delta = DeltaExpert(expert, action_dim=MODEL_DIM, action_horizon=HORIZON, correction=correction)
    return {"flow": network, "delta": delta}


def observation(**more: Any) -> dict[str, Any]:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (2, 1, 3, 24, 32), np.uint8)
    state = random.standard_normal((1, STATE_DIM)).astype(np.float32)
    seen = {"proprio": state, "head": images[0], "hand": images[1], "prompt": "reach the red cube"}
    return seen | more


@pytest.mark.parametrize("correction", ["replace", "add"])
def test_a_chunk_takes_one_prefix_and_one_step_of_the_second_expert(
    checkpoint: Path,
    policy_yaml: WriteYaml,
    correction: Correction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = components(policy_yaml, checkpoint, correction)
    calls: list[str] = []

    def count(network: Any, name: str) -> None:
        transformers = network.policy.model.vlm_with_expert
        forward = transformers.forward

        def counted(*, inputs_embeds: Any, **inputs: Any) -> Any:
            calls.append("vlm" if inputs_embeds[0] is not None else name)
            return forward(inputs_embeds=inputs_embeds, **inputs)

        monkeypatch.setattr(transformers, "forward", counted)

    count(parts["flow"], "policy")
    count(parts["delta"].expert, "delta")
    policy = DeltaFlowPolicy(parts, num_inference_steps=5, seed=0)
    context = np.ones((5, ACTION_DIM), np.float32)
    chunk = policy.predict(observation(action_context=context), NOT_USED)
    assert chunk.shape == (HORIZON, ACTION_DIM)
    assert calls == ["vlm", *(["policy"] * 5 if correction == "add" else []), "delta"]
    other = policy.predict(observation(action_context=-context), NOT_USED)
    assert np.abs(other - chunk).max() > 1e-4


@pytest.mark.parametrize("correction", ["replace", "add"])
def test_training_lowers_the_loss_and_leaves_smolvla_as_it_was(
    checkpoint: Path, policy_yaml: WriteYaml, correction: Correction
) -> None:
    parts = components(policy_yaml, checkpoint, correction)
    network = DeltaFlow(parts["flow"], parts["delta"])
    before = {name: value.clone() for name, value in network.network.state_dict().items()}
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert not any(".vlm." in name or name.startswith("network.") for name in learning)
    optimizer = torch.optim.Adam(learning.values(), 1e-2)
    seen = {k: torch.tensor(v)[None] for k, v in observation().items() if k != "prompt"}
    batch = seen | {"prompt": "reach the red cube", "action": torch.ones(1, HORIZON, ACTION_DIM)}
    losses = []
    for _ in range(10):
        loss, parts_of_loss = network.forward_delta_expert(batch, torch.ones(1, 5, ACTION_DIM))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(parts_of_loss["loss"])
    assert losses[-1] < 0.5 * losses[0]
    torch.testing.assert_close(network.network.state_dict(), before, rtol=0, atol=0)
