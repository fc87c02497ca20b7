"""Record a function's work on the GPU once, and replay it: one launch in place of thousands.

Guarantees:
  - A call gives what the function would, for any values in the tensors of its arguments.
  - What a call gave stays as it is: the next call does not write over it.
Assumptions:
  - The function is one of its arguments alone, gives one tensor, draws no random numbers and never
    waits for the device.
  - It is called from one thread, always in the same modes (inference, autocast) and on the current
    device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from rt.errors import PolicyError

# Recordings; each holds its share of the device's memory. Batches of 1 to 16 rows, free, guided and
# behind a clean prefix, with an action context and without, are 30.
KEPT = 32
RUNS_BEFORE = 3  # compile, choose algorithms, allocate: none of it can be recorded
PLAIN = (str, bytes, int, float, bool, type(None))

Run = Callable[[], Tensor]
Recording = tuple[Callable[[], None], Tensor]  # replay, and where it leaves the result


def record_cuda_graph(run: Run) -> Recording:
    """A CUDA graph of what `run` does. Waits for the device."""
    here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(RUNS_BEFORE):
            run()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = run()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise PolicyError(
            f"the denoising loop cannot be recorded as a CUDA graph ({reason}): its network waits "
            "for the device or copies from the host; set cuda_graph: false in the policy YAML"
        ) from error
    return graph.replay, result


class Recorder:
    """`function`, recorded at the first call with arguments of each structure and shape.

    Arguments are pytrees of tensors and plain values; another plain value is another recording.
    The oldest of more than `KEPT` is forgotten.
    record: makes a recording. Raises PolicyError for a leaf that is neither.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        record: Callable[[Run], Recording] = record_cuda_graph,
    ) -> None:
        self._function = function
        self._record = record
        self._recordings: dict[Any, tuple[list[Any], Recording]] = {}

    def __call__(self, *arguments: Any) -> Tensor:
        leaves, structure = pytree.tree_flatten(arguments)
        key = (str(structure), *map(_kind, leaves))
        if key not in self._recordings:
            self._recordings[key] = self._new(leaves, structure)
            if len(self._recordings) > KEPT:
                del self._recordings[next(iter(self._recordings))]
        inputs, (replay, result) = self._recordings[key]
        for mine, given in zip(inputs, leaves, strict=True):
            if isinstance(mine, Tensor):
                mine.copy_(given, non_blocking=True)
        replay()
        return result.clone()

    def _new(self, leaves: list[Any], structure: Any) -> tuple[list[Any], Recording]:
        """Inputs that stay where they are, and a recording that reads them."""
        inputs = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        arguments = pytree.tree_unflatten(inputs, structure)
        return inputs, self._record(lambda: self._function(*arguments))


def _kind(leaf: Any) -> Any:
    """What two leaves must share for the same recording to serve both."""
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.dtype, leaf.device
    if isinstance(leaf, PLAIN):
        return type(leaf), leaf
    raise PolicyError(
        f"a {type(leaf).__name__} in the context cannot be told from another: let encode give "
        "tensors in tuples, lists and dicts, or set cuda_graph: false in the policy YAML"
    )
