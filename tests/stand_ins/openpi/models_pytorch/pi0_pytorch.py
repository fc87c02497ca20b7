"""A PI0Pytorch in small: a tower that sees and reads, a tower of actions that attends to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from openpi.models.model import IMAGE_KEYS
from openpi.models.tokenizer import VOCABULARY

WIDTH = 16


def make_att_2d_masks(pad_masks: Tensor, att_masks: Tensor) -> Tensor:
    """(B, N, N): a token sees those of its own and of earlier blocks; a 1 begins a block."""
    block = torch.cumsum(att_masks, dim=1)
    both = pad_masks[:, None, :] * pad_masks[:, :, None]
    return (block[:, None, :] <= block[:, :, None]) & both


class DynamicCache:
    """Keys and values, one pair per layer."""

    def __init__(self) -> None:
        self._layers: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, layer_idx: int) -> None:
        assert layer_idx == len(self._layers), "grown by a second pass"
        self._layers.append((keys, values))

    def __getitem__(self, layer_idx: int) -> tuple[Tensor, Tensor]:
        return self._layers[layer_idx]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self._layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._layers[layer_idx][0].shape[-2] if self._layers else 0


class Config:
    _attn_implementation = "sdpa"


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))


class Tower(nn.Module):
    """A transformer over embeddings, as transformers' GemmaModel is called."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: Any,
        use_cache: bool,
        adarms_cond: Tensor | None,
    ) -> tuple[Tensor, Any]:
        assert self.config._attn_implementation == "eager", "so openpi sets it before each pass"
        x = inputs_embeds.to(self.layers[0].q_proj.weight.dtype)  # type: ignore[union-attr,arg-type]
        x = x + torch.sin(position_ids[..., None] / torch.arange(1, WIDTH + 1)).to(x)
        cache = DynamicCache() if use_cache else None
        for index, layer in enumerate(self.layers):
            if adarms_cond is not None:
                x = x * (1 + adarms_cond[:, None]).to(x)
            q, k, v = (p(x)[:, None] for p in (layer.q_proj, layer.k_proj, layer.v_proj))
            if cache is not None:
                cache.update(k, v, index)
            elif past_key_values is not None:
                past_seen = past_key_values.get_seq_length()
                assert attention_mask.shape[-1] == past_seen + k.shape[-2]
                k = torch.cat([past_key_values[index][0], k], dim=2)
                v = torch.cat([past_key_values[index][1], v], dim=2)
            scores = q @ k.transpose(2, 3) / WIDTH**0.5 + attention_mask
            x = x + (scores.softmax(-1).to(v) @ v)[:, 0]
            x = x + layer.mlp(x)
        return x, cache


class PaliGemmaWithExpertModel(nn.Module):
    def __init__(self, precision: str) -> None:
        super().__init__()
        self.paligemma = nn.Module()
        self.paligemma.language_model = Tower()
        self.paligemma.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.paligemma.vision_tower = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.gemma_expert = nn.Module()
        self.gemma_expert.model = Tower()
        self.to_bfloat16_for_selected_params(precision)

    def to_bfloat16_for_selected_params(self, precision: str = "bfloat16") -> None:
        self.to(dtype=getattr(torch, precision))

    def embed_image(self, image: Tensor) -> Tensor:
        tower: Any = self.paligemma.vision_tower
        patches: Tensor = tower(image.to(tower.weight.dtype))
        return patches.flatten(2).transpose(1, 2)

    def embed_language_tokens(self, tokens: Tensor) -> Tensor:
        table: Any = self.paligemma.embed_tokens
        return table(tokens)  # type: ignore[no-any-return]

    def forward(
        self,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        use_cache: bool | None = None,
        adarms_cond: Any = None,
    ) -> Any:
        tower: Any = self.paligemma.language_model
        index = 0
        if inputs_embeds[0] is None:
            tower, index = self.gemma_expert.model, 1
        condition = None if adarms_cond is None else adarms_cond[index]
        out, cache = tower(
            inputs_embeds[index],
            attention_mask,
            position_ids,
            past_key_values,
            use_cache,
            condition,
        )
        return [None, out] if index else [out, None], cache


class PI0Pytorch(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.pi05 = config.pi05
        self.paligemma_with_expert = PaliGemmaWithExpertModel(config.dtype)
        self.action_in_proj = nn.Linear(config.action_dim, WIDTH)
        self.action_out_proj = nn.Linear(WIDTH, config.action_dim)
        self.time_mlp_in = nn.Linear(1, WIDTH)
        if not self.pi05:
            self.state_proj = nn.Linear(config.action_dim, WIDTH)

    def _prepare_attention_masks_4d(self, att_2d_masks: Tensor) -> Tensor:
        return torch.where(att_2d_masks[:, None], 0.0, -2.3819763e38)

    def _preprocess_observation(self, observation: Any, *, train: bool = True) -> Any:
        assert not train
        if not set(IMAGE_KEYS).issubset(observation.images):
            raise ValueError(f"images dict missing keys: expected {IMAGE_KEYS}")
        return (
            [observation.images[key] for key in IMAGE_KEYS],
            [observation.image_masks[key] for key in IMAGE_KEYS],
            observation.tokenized_prompt,
            observation.tokenized_prompt_mask,
            observation.state,
        )

    def embed_prefix(
        self, images: Any, img_masks: Any, lang_tokens: Tensor, lang_masks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        embs = [self.paligemma_with_expert.embed_image(image) for image in images]
        masks = [
            mask[:, None].expand(emb.shape[:2]) for mask, emb in zip(img_masks, embs, strict=True)
        ]
        embs.append(self.paligemma_with_expert.embed_language_tokens(lang_tokens))
        pad_masks = torch.cat([*masks, lang_masks], dim=1)
        return torch.cat(embs, dim=1), pad_masks, torch.zeros_like(pad_masks)

    @torch.no_grad()
    def sample_actions(
        self, device: Any, observation: Any, noise: Any = None, num_steps: int = 10
    ) -> Tensor:
        images, img_masks, tokens, token_masks, state = self._preprocess_observation(
            observation, train=False
        )
        embs, pad_masks, att_masks = self.embed_prefix(images, img_masks, tokens, token_masks)
        self.paligemma_with_expert.paligemma.language_model.config._attn_implementation = "eager"  # type: ignore[union-attr]
        _, past_key_values = self.paligemma_with_expert(
            attention_mask=self._prepare_attention_masks_4d(
                make_att_2d_masks(pad_masks, att_masks)
            ),
            position_ids=torch.cumsum(pad_masks, dim=1) - 1,
            past_key_values=None,
            inputs_embeds=[embs, None],
            use_cache=True,
        )
        x_t, time, dt = noise, torch.tensor(1.0), -1.0 / num_steps
        while time >= -dt / 2:
            v_t = self.denoise_step(
                state, pad_masks, past_key_values, x_t, time.expand(x_t.shape[0])
            )
            x_t = x_t + dt * v_t
            time = time + dt
        return x_t  # type: ignore[no-any-return]

    def denoise_step(
        self, state: Tensor, prefix_pad_masks: Tensor, past_key_values: Any, x_t: Any, timestep: Any
    ) -> Tensor:
        tokens = self.action_in_proj(x_t)
        time = torch.nn.functional.silu(self.time_mlp_in(timestep[:, None]))
        if not self.pi05:
            state_token = self.state_proj(state.to(torch.float32))[:, None]
            tokens = torch.cat([state_token, tokens + time[:, None]], dim=1)
        seen = prefix_pad_masks[:, None, :].expand(-1, tokens.shape[1], -1)
        own = torch.ones(*tokens.shape[:2], tokens.shape[1], dtype=torch.bool)
        positions = torch.arange(tokens.shape[1]) + prefix_pad_masks.sum(-1, keepdim=True)
        self.paligemma_with_expert.gemma_expert.model.config._attn_implementation = "eager"  # type: ignore[union-attr]
        (_, out), _ = self.paligemma_with_expert(
            attention_mask=self._prepare_attention_masks_4d(torch.cat([seen, own], dim=2)),
            position_ids=positions,
            past_key_values=past_key_values,
            inputs_embeds=[None, tokens],
            use_cache=False,
            adarms_cond=[None, time if self.pi05 else None],
        )
        out = out[:, -self.config.action_horizon :].to(torch.float32)
        return self.action_out_proj(out)  # type: ignore[no-any-return]
