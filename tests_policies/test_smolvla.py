"""SmolVLA, lerobot's own code with random weights, behind our policy layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.processor import PolicyAction, PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from tiny_smolvla import ACTION_DIM, FEATURES, HORIZON, MODEL_DIM, STATE_DIM, STATISTICS
from transformers import DynamicCache

from rt.infer import build_policy
from rt.infer.denoising import Guide, guided_denoise
from rt.infer.inpainting import compute_guided_prefix_weights
from rt.infer.normalization import Normalizer
from rt.infer.policies import lerobot_policy
from rt.infer.policy import GuidanceOptions

STEPS, DELAY, EXECUTED = 5, 3, 2
NOT_USED = Normalizer.identity()  # the runtime's: the checkpoint has its own
WriteYaml = Callable[..., Path]


def observation(prompt: str = "reach the red cube") -> dict[str, Any]:
    """What the runtime would observe."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (2, 1, 3, 24, 32), np.uint8)
    state = random.standard_normal((1, STATE_DIM)).astype(np.float32)
    return {"proprio": state, "head": images[0], "hand": images[1], "prompt": prompt}


def leftover() -> np.ndarray[Any, np.dtype[np.float32]]:
    """(H, A), robot units: nothing that the policy would plan by itself."""
    rows = np.random.default_rng(2).standard_normal((HORIZON, ACTION_DIM)).astype(np.float32)
    return rows * STATISTICS["action"]["std"].numpy() + STATISTICS["action"]["mean"].numpy()


def guided(policy: Any, **options: Any) -> Any:
    guidance = GuidanceOptions(**options)
    tied = {"prev_action": leftover(), "est_delay": DELAY, "guidance": guidance}
    return policy.guided_inference(observation() | tied, NOT_USED, EXECUTED, HORIZON)


def batched(network: Any) -> dict[str, Any]:
    """The observation as FlowPolicy hands it to the network."""
    tensors = {k: torch.tensor(v)[None] for k, v in observation().items() if k != "prompt"}
    tensors["proprio"] = network.normalizer.normalize_state(tensors["proprio"])
    return tensors | {"prompt": "reach the red cube"}


def by_lerobot(
    policy_class: Any, checkpoint: Path, seen: dict[str, Any], noise: torch.Tensor
) -> Any:
    """The chunk (H, A) of lerobot alone: its processors, its sampler, its units."""
    policy = policy_class.from_pretrained(checkpoint)
    pre = PolicyProcessorPipeline.from_pretrained(checkpoint, "policy_preprocessor.json")
    post = PolicyProcessorPipeline[PolicyAction, PolicyAction].from_pretrained(
        checkpoint,
        "policy_postprocessor.json",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    for step in post.steps:
        if hasattr(step, "relative_step"):  # from lerobot 0.5 on; its loaders leave it to us
            step.relative_step = next(s for s in pre.steps if hasattr(s, "exclude_joints"))
    images = {
        feature: torch.from_numpy(seen[name][-1]).float() / 255
        for name, feature in zip(("head", "hand"), FEATURES, strict=True)
    }
    state = torch.from_numpy(seen["proprio"][-1])
    batch = pre({"observation.state": state, "task": seen["prompt"], **images})
    return post(policy.predict_action_chunk(batch, noise=noise))[0].numpy()


def test_an_unguided_chunk_is_lerobots_own(checkpoint: Path, policy_yaml: WriteYaml) -> None:
    policy = build_policy(policy_yaml(checkpoint))
    noise = torch.randn(1, HORIZON, MODEL_DIM, generator=torch.Generator().manual_seed(0))
    ours = policy.predict(observation(), NOT_USED)
    assert ours.shape == (HORIZON, ACTION_DIM)
    theirs = by_lerobot(SmolVLAPolicy, checkpoint, observation(), noise)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_the_vlm_runs_once_a_chunk_and_the_expert_once_a_step(
    checkpoint: Path, policy_yaml: WriteYaml, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy: Any = build_policy(policy_yaml(checkpoint))
    transformers = policy._network.policy.model.vlm_with_expert
    calls: list[str] = []
    forward = transformers.forward

    def count(*, inputs_embeds: Any, **inputs: Any) -> Any:
        calls.append("expert" if inputs_embeds[0] is None else "vlm")
        return forward(inputs_embeds=inputs_embeds, **inputs)

    monkeypatch.setattr(transformers, "forward", count)
    vision = transformers.get_vlm_model().vision_model
    vision.register_forward_hook(lambda *_: calls.append("vision"))
    guided(policy)
    assert calls == ["vision", "vision", "vlm"] + ["expert"] * STEPS


def test_a_guided_chunk_keeps_to_the_leftover_where_it_is_frozen(
    checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    scale = STATISTICS["action"]["std"].numpy()

    def miss(chunk: Any) -> float:
        return float(np.abs((chunk - leftover())[:DELAY] / scale).max())

    def fresh() -> Any:
        return build_policy(policy_yaml(checkpoint))

    free, rtc, identity = fresh().predict(observation(), NOT_USED), guided(fresh()), None
    identity = guided(fresh(), vjp=False)
    assert miss(rtc) < 0.1 * miss(free)
    assert np.abs(rtc - identity).max() > 0.01  # the Jacobian is the expert's, not the identity


def test_guidance_under_inference_mode_is_what_it_is_without(
    checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    policy: Any = build_policy(policy_yaml(checkpoint))
    network = policy._network
    noise = torch.randn(1, HORIZON, MODEL_DIM)

    def run() -> torch.Tensor:
        velocity = partial(network.velocity, network.encode(batched(network)))
        rows = torch.from_numpy(compute_guided_prefix_weights(DELAY, EXECUTED, HORIZON))
        return guided_denoise(velocity, noise, STEPS, Guide(torch.ones(HORIZON, MODEL_DIM), rows))

    outside = run()
    with torch.inference_mode():
        inside = run()
    torch.testing.assert_close(inside, outside)


def test_denoising_leaves_the_prefix_as_it_is(checkpoint: Path, policy_yaml: WriteYaml) -> None:
    policy: Any = build_policy(policy_yaml(checkpoint))
    network = policy._network
    context = network.encode(batched(network))
    before = torch.utils._pytree.tree_map(torch.clone, context)
    x = torch.randn(1, HORIZON, MODEL_DIM)
    first = network.velocity(context, x, torch.zeros(1))
    torch.func.vjp(lambda x: network.velocity(context, x, torch.full((1,), 0.6)), x)
    torch.testing.assert_close(context, before, rtol=0, atol=0)
    torch.testing.assert_close(network.velocity(context, x, torch.zeros(1)), first)


def test_a_cache_of_transformers_is_kept_as_tensors_that_never_grow() -> None:
    cache = DynamicCache()  # what lerobot from 0.5 on hands its denoising step, and appends to
    layers = [tuple(torch.randn(2, 1, 1, 4, 2)) for _ in range(2)]
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    plain = lerobot_policy._plain(cache)
    for _ in range(2):
        fresh = lerobot_policy._cache(plain)
        assert fresh.get_seq_length() == 4
        fresh.update(*(torch.randn(1, 1, 3, 2) for _ in range(2)), 0)
    torch.testing.assert_close(plain, layers, rtol=0, atol=0)


def test_the_prompt_is_read_and_the_default_stands_in_for_it(
    checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    def chunk(seen: dict[str, Any], **params: Any) -> Any:
        return build_policy(policy_yaml(checkpoint, **params)).predict(seen, NOT_USED)

    silent = observation()
    del silent["prompt"]
    reach = chunk(observation())
    assert np.abs(reach - chunk(observation("push the red cube"))).max() > 1e-4
    np.testing.assert_array_equal(chunk(silent, default_prompt="reach the red cube"), reach)


def test_each_camera_feeds_the_feature_that_the_map_names(
    checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    seen = observation()
    crossed = {"hand": FEATURES[0], "head": FEATURES[1]}
    swapped = seen | {"head": seen["hand"], "hand": seen["head"]}
    straight = build_policy(policy_yaml(checkpoint)).predict(seen, NOT_USED)
    policy = build_policy(policy_yaml(checkpoint, camera_map=crossed))
    np.testing.assert_allclose(policy.predict(swapped, NOT_USED), straight, atol=1e-5)
    assert np.abs(build_policy(policy_yaml(checkpoint)).predict(swapped, NOT_USED) - straight).any()


def test_a_feature_may_be_declared_absent(checkpoint: Path, policy_yaml: WriteYaml) -> None:
    params = {"camera_map": {"head": FEATURES[0]}, "absent_cameras": [FEATURES[1]]}
    chunk = build_policy(policy_yaml(checkpoint, **params)).predict(observation(), NOT_USED)
    assert np.isfinite(chunk).all()


def test_bfloat16_is_close_to_float32(checkpoint: Path, policy_yaml: WriteYaml) -> None:
    exact = guided(build_policy(policy_yaml(checkpoint)))
    path = policy_yaml(checkpoint)
    path.write_text(path.read_text().replace("seed: 0", "seed: 0, bf16: true"))
    rounded = guided(build_policy(path))
    np.testing.assert_allclose(rounded, exact, atol=0.05)
    assert np.abs(rounded - exact).any()


def test_no_shape_depends_on_the_prompt(checkpoint: Path, policy_yaml: WriteYaml) -> None:
    policy: Any = build_policy(policy_yaml(checkpoint))
    network = policy._network

    def shapes(prompt: str) -> Any:
        context = network.encode(batched(network) | {"prompt": prompt})
        return [leaf.shape for leaf in torch.utils._pytree.tree_leaves(context)]

    assert shapes("push") == shapes("reach the red cube")


def test_warm_up_runs_on_what_the_network_tells(checkpoint: Path, policy_yaml: WriteYaml) -> None:
    policy = build_policy(policy_yaml(checkpoint))
    policy.warmup()
    assert not any(p.requires_grad for p in policy._network.parameters())  # type: ignore[attr-defined]


def test_every_mode_but_the_clean_prefix_is_offered(
    checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    policy: Any = build_policy(policy_yaml(checkpoint))
    assert "rtc" in policy.modes
    assert "prefix" not in policy.modes
