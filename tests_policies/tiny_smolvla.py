"""A SmolVLA checkpoint of 70 thousand random weights, written by lerobot itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

STATE_DIM, ACTION_DIM, HORIZON, MODEL_DIM = 5, 3, 8, 6
FEATURES = ("observation.images.top", "observation.images.wrist")
SPECIAL = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
}
WORDS = ["<pad>", "<unk>", *SPECIAL.values(), "reach", "push", "the", "red", "cube\n"]

STATISTICS = {
    "observation.state": {"mean": torch.arange(5.0), "std": torch.arange(5.0) + 1},
    "action": {"mean": torch.tensor([0.5, -1.0, 2.0]), "std": torch.tensor([2.0, 0.5, 1.0])},
}


def write_vlm(folder: Path) -> None:
    """What SmolVLA takes from the hub: the VLM's config, tokenizer and image processor."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=SPECIAL,
    )
    processor = SmolVLMProcessor(SmolVLMImageProcessor(), fast, SmolVLMVideoProcessor())
    processor.save_pretrained(folder)
    SmolVLMConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(WORDS),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "pad_token_id": 0,
        },
        image_token_id=WORDS.index("<image>"),
        scale_factor=2,
        pad_token_id=0,
    ).save_pretrained(folder)


def write_checkpoint(folder: Path, vlm: Path, **changes: Any) -> SmolVLAPolicy:
    """Save policy and processors into `folder`, as lerobot's training does."""
    config = SmolVLAConfig(
        **{
            "device": "cpu",
            "input_features": {
                "observation.state": PolicyFeature(FeatureType.STATE, (STATE_DIM,)),
                **{key: PolicyFeature(FeatureType.VISUAL, (3, 24, 32)) for key in FEATURES},
            },
            "output_features": {"action": PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))},
            "chunk_size": HORIZON,
            "n_action_steps": HORIZON,
            "num_steps": 5,
            "max_state_dim": MODEL_DIM,
            "max_action_dim": MODEL_DIM,
            "vlm_model_name": str(vlm),
            "num_vlm_layers": 2,
            "resize_imgs_with_padding": (32, 32),
            "tokenizer_max_length": 8,
        }
        | changes
    )
    torch.manual_seed(0)
    policy = SmolVLAPolicy(config).eval()
    policy.save_pretrained(folder)
    for processor in make_smolvla_pre_post_processors(config, STATISTICS):
        processor.save_pretrained(folder)
    return policy
