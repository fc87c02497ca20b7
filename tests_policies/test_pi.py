"""pi0 and pi0.5, lerobot's own code with a tiny PaliGemma of random weights.

They need lerobot 0.5, which needs Python 3.12: skipped in the venv of `make test-policies`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_smolvla import NOT_USED, by_lerobot, guided, leftover, observation
from tiny_smolvla import (
    ACTION_DIM,
    FEATURES,
    HORIZON,
    MODEL_DIM,
    STATE_DIM,
    STATISTICS,
    WORDS,
)

from rt.infer import build_policy

WriteYaml = Callable[..., Path]
FAMILIES = {"pi0": "PI0", "pi05": "PI05"}

pytestmark = pytest.mark.skipif(
    version("lerobot").startswith("0.4"),
    reason="lerobot's pi0 and pi05 need lerobot 0.5 on Python 3.12",
)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pi(family: str, vlm: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """lerobot's module of that family, with a tiny PaliGemma, and a tokenizer for its hub's."""
    modeling = import_module(f"lerobot.policies.{family}.modeling_{family}")
    paligemma = modeling.PaliGemmaForConditionalGenerationWithPiGemma
    gemma = modeling.get_gemma_config("gemma_300m")
    gemma.width, gemma.depth, gemma.mlp_dim = 32, 2, 64
    gemma.num_heads, gemma.num_kv_heads, gemma.head_dim = 2, 1, 16

    def shrunk(config: Any) -> Any:
        text, vision = config.text_config, config.vision_config
        text.vocab_size, config.image_token_index = len(WORDS), WORDS.index("<image>")
        text.pad_token_id = config.pad_token_id = 0
        vision.hidden_size = vision.intermediate_size = 16
        vision.num_hidden_layers, vision.num_attention_heads, vision.patch_size = 1, 2, 16
        vision.projection_dim = config.projection_dim = gemma.width
        return paligemma(config=config)

    monkeypatch.setattr(modeling, "get_gemma_config", lambda _: gemma)
    monkeypatch.setattr(
        modeling,
        "PaliGemmaForConditionalGenerationWithPiGemma",
        lambda config: shrunk(config),
    )
    tokenizers = import_module("lerobot.processor.tokenizer_processor").AutoTokenizer
    from_folder = tokenizers.from_pretrained
    monkeypatch.setattr(tokenizers, "from_pretrained", lambda _: from_folder(vlm))
    return modeling


@pytest.fixture
def pi_checkpoint(family: str, pi: Any, tmp_path: Path) -> Path:
    """Written by lerobot. Its actions are relative to the state, but for the last joint's."""
    configs = import_module(f"lerobot.policies.{family}.configuration_{family}")
    processors = import_module(f"lerobot.policies.{family}.processor_{family}")
    types = import_module("lerobot.configs.types")
    visual = {f: types.PolicyFeature(types.FeatureType.VISUAL, (3, 24, 32)) for f in FEATURES}
    state = types.PolicyFeature(types.FeatureType.STATE, (STATE_DIM,))
    z_score = dict.fromkeys(("STATE", "ACTION"), types.NormalizationMode.MEAN_STD)
    config = getattr(configs, f"{FAMILIES[family]}Config")(
        device="cpu",
        input_features={"observation.state": state, **visual},
        output_features={"action": types.PolicyFeature(types.FeatureType.ACTION, (ACTION_DIM,))},
        normalization_mapping={"VISUAL": types.NormalizationMode.IDENTITY, **z_score},
        chunk_size=HORIZON,
        n_action_steps=HORIZON,
        num_inference_steps=5,
        max_state_dim=MODEL_DIM,
        max_action_dim=MODEL_DIM,
        image_resolution=(32, 32),
        tokenizer_max_length=16,
        use_relative_actions=True,
        relative_exclude_joints=["gripper"],
        action_feature_names=["shoulder", "elbow", "gripper"],
    )
    torch.manual_seed(0)
    folder = tmp_path / "checkpoint"
    getattr(pi, f"{FAMILIES[family]}Policy")(config).save_pretrained(folder)
    make = getattr(processors, f"make_{family}_pre_post_processors")
    for processor in make(config, STATISTICS):
        processor.save_pretrained(folder)
    return folder


def test_an_unguided_chunk_is_lerobots_own(
    family: str, pi: Any, pi_checkpoint: Path, policy_yaml: WriteYaml
) -> None:
    policy = build_policy(policy_yaml(pi_checkpoint))
    noise = torch.randn(1, HORIZON, MODEL_DIM, generator=torch.Generator().manual_seed(0))
    policy_class = getattr(pi, f"{FAMILIES[family]}Policy")
    expected = by_lerobot(policy_class, pi_checkpoint, observation(), noise)
    np.testing.assert_allclose(policy.predict(observation(), NOT_USED), expected, atol=2e-5)


def test_a_guided_chunk_keeps_to_the_leftover(pi_checkpoint: Path, policy_yaml: WriteYaml) -> None:
    policy = build_policy(policy_yaml(pi_checkpoint))
    free, rtc = policy.predict(observation(), NOT_USED), guided(policy)
    assert np.abs(rtc - leftover())[:3].max() < 0.2 * np.abs(free - leftover())[:3].max()


def test_a_failed_load_is_no_random_policy(pi_checkpoint: Path, policy_yaml: WriteYaml) -> None:
    from safetensors.torch import load_file, save_file

    from rt.errors import CheckpointError

    weights = load_file(pi_checkpoint / "model.safetensors")
    del weights["model.action_out_proj.bias"]
    save_file(weights, pi_checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.action_out_proj\.bias"):
        build_policy(policy_yaml(pi_checkpoint))
