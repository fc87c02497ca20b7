"""A flow network, run fast: compiled, in bfloat16, its denoising loop recorded.

Nothing here changes what is computed but for rounding, and each is one key of the policy YAML.

    compile      torch.compile for encoding and for one step of denoising. What was compiled is
                 kept in the user's cache, so that only the first start waits for it.
    bf16         matrices in bfloat16 by autocast; x, its sum over the steps and the guidance keep
                 x's own dtype
    cuda_graph   the whole loop is recorded once and replayed; without CUDA, no difference
    tf32         float32 matrices in TensorFloat-32; without CUDA, no difference
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rt.infer.cuda_graph import KEPT, Recorder
from rt.infer.denoising import Guide, guided_denoise, guided_step, prefix_denoise, prefix_step
from rt.infer.policy import GuidanceOptions

# Autocast casts the weights of these at each use, and nothing else does anything with them.
CAST_BY_AUTOCAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Acceleration:
    """See the module."""

    compile: bool = False
    bf16: bool = False
    cuda_graph: bool = False
    tf32: bool = False


class FastNetwork:
    """A flow network's `encode` and denoising loop: compiled, cast and recorded as `how` asks.

    network: on `device`; with bf16 its matrices are cast for good.
    num_steps: n Euler steps.
    """

    def __init__(
        self, network: Any, num_steps: int, device: torch.device, how: Acceleration
    ) -> None:
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            if how.tf32:
                torch.backends.cudnn.allow_tf32 = True
                torch.set_float32_matmul_precision("high")
        if how.compile:
            set_compile_cache()
            allow_graphs(KEPT)
        if how.bf16:
            cast_once(network)
        compiled: Callable[[Any], Any] = torch.compile if how.compile else lambda call: call
        self.encode = compiled(network.encode)
        self._guided_step, self._prefix_step = compiled(guided_step), compiled(prefix_step)
        self._velocity = network.velocity
        self._num_steps = num_steps
        self._device, self._bf16 = device, how.bf16
        recorded = how.cuda_graph and device.type == "cuda"
        self._loop: Callable[..., Tensor] = Recorder(self._steps) if recorded else self._steps

    def precision(self) -> AbstractContextManager[object]:
        """The context in which `encode` and `denoise` are called."""
        # No cache of casts: a recording must not read one that was made outside of it.
        return torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._bf16, cache_enabled=False
        )

    def denoise(
        self,
        context: Any,
        noise: Tensor,
        guide: Guide | None,
        options: GuidanceOptions,
    ) -> Tensor:
        """`guided_denoise`, or `prefix_denoise` if the options say so: (B, H, A).

        context: what `encode` gave; with cuda_graph, a pytree of tensors.
        """
        how = options.prefix, options.max_guidance_weight, options.vjp
        return self._loop(context, noise, guide, *how)

    def _steps(
        self,
        context: Any,
        noise: Tensor,
        guide: Guide | None,
        prefix: bool,
        max_guidance_weight: float,
        vjp: bool,
    ) -> Tensor:
        """A function of its arguments alone, so that it can be recorded."""
        velocity, n = partial(self._velocity, context), self._num_steps
        if prefix and guide is not None:
            return prefix_denoise(velocity, noise, n, guide, step=self._prefix_step)
        pull: dict[str, Any] = {"max_guidance_weight": max_guidance_weight, "vjp": vjp}
        return guided_denoise(velocity, noise, n, guide, **pull, step=self._guided_step)


def allow_graphs(count: int) -> None:
    """Have torch compile one function for up to `count` shapes, where its own limit is 8: a guided
    step is a graph for every size of a batch. Beyond the limit it runs what is not compiled."""
    import torch._dynamo  # a second or two, which only compiling needs

    torch._dynamo.config.cache_size_limit = count


def set_compile_cache() -> None:
    """Have torch keep compiled code in `compile_cache()` unless TORCHINDUCTOR_CACHE_DIR says where.

    Its own choice is the folder for temporary files, which the machine's restart may empty.
    """
    folder = compile_cache()
    try:
        for made in (folder.parent, folder):  # what is in it is run again without being asked
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return  # no home to keep it in: torch's own choice is as good as any
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compile_cache() -> Path:
    """$XDG_CACHE_HOME/rt/compiled, by default ~/.cache/rt/compiled. Safe to delete."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has a relative path ignored.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "rt" / "compiled"


def cast_once(network: nn.Module) -> None:
    """Cast to bfloat16 what autocast would cast at every step: it remembers only what is trained.

    A weight that another kind of layer shares (an embedding, say) stays as it is.
    """
    modules = list(network.modules())
    others = [module for module in modules if type(module) not in CAST_BY_AUTOCAST]
    shared = {id(weight) for module in others for weight in module.parameters(recurse=False)}
    for module in modules:
        for weight in module.parameters(recurse=False):
            if id(weight) not in shared and weight.dtype == torch.float32:
                weight.data = weight.data.bfloat16()
