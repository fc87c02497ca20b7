"""What a policy is: the Protocol, and how guidance is asked for.

Nothing here imports torch, so that a policy YAML can be checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, get_args, runtime_checkable

from rt.arrays import Chunk
from rt.config.schema import Algorithm

if TYPE_CHECKING:
    from torch import nn

    from rt.infer.inpainting import Schedule
    from rt.infer.normalization import Normalizer

# The modes that ask nothing special of a policy's training.
COMMON_MODES = tuple(mode for mode in get_args(Algorithm) if mode != "prefix")


@dataclass(frozen=True)
class GuidanceOptions:
    """How a leftover pulls: the optional key "guidance" of `input_data`."""

    schedule: Schedule = "exp"
    max_guidance_weight: float = 5.0  # beta
    vjp: bool = True  # False: the identity in place of the Jacobian
    prefix: bool = False  # no pull: the first d rows are the leftover's from the start


@runtime_checkable
class Policy(Protocol):
    """An action-chunking policy. Any class of this shape is one; there is no base class.

    `input_data` holds, oldest first and newest last:
      "proprio"   (proprio_history_size, state_dim) float32, robot units
      <camera>    (num_img_obs, 3, height, width) uint8, one key per camera name
      "prompt"    str, optional
      "guidance"  GuidanceOptions, optional
      "action_context"  (action_context_size, action_dim) float32, robot units: the next rows of
                        the chunk in use, for a policy that asks for them; absent: fewer are left
    and for `guided_inference` also:
      "est_delay"    int, d: rows that will be executed while this chunk is computed
      "prev_action"  (action_chunk_size, action_dim) float32, robot units: the leftover, already
                     shifted so that its row i meets the new row i. Absent: unguided.
    A chunk is (action_chunk_size, action_dim) float32 in robot units.

    Optional:
      default_component_class  class attribute, "package.module.Class": the model of a component
                               whose YAML names no `class`
      reset()                  called when an episode begins
      latency                  dict[str, int]: "encode_ns" and "denoise_ns" of the last call; of a
                               policy on another machine "network_ns" and "queue_ns" besides
      modes                    names of the modes that it can serve; without it: all but `prefix`
      modes_why                why it serves no others, in words
      action_context_size      rows of "action_context" that it asks for
      infer_many()             asks, data_normalization_interface → chunks of several robots at
                               once, for python -m rt.serve: of each ask (input_data, s) its chunk,
                               or the exception that it would get alone
      batches                  whether infer_many() gains by it; without it: it does where it is
      warmup_many()            max_batch → None: in place of warmup(), for every size of batch
      dims                     dict[str, int]: those of `rt.infer.policy_config.DIMS` that it has
      trained_for              what its YAML says where it is: (sim, real), one of them, or None
      statistics               Normalizer: what it is normalised by where it is; None: by nothing
      described                of a policy on another machine: which one it is, and where, in words
      deadline_s               seconds that a call may take; longer ones give NoAnswerError
      outcomes                 list[int], by `rt.records.Outcome`: how often what came of asking for
                               a chunk, of a policy on another machine. What is not OK is raised as
                               NoAnswerError: it costs this chunk alone, however often
    """

    def __init__(self, components: dict[str, nn.Module], **kwargs: Any) -> None:
        """components: name → model, in eval mode and on its device. kwargs: the rest of the
        YAML's `policy` mapping."""

    def predict(
        self, input_data: dict[str, Any], data_normalization_interface: Normalizer
    ) -> Chunk:
        """A chunk from the observation alone."""

    def guided_inference(
        self,
        input_data: dict[str, Any],
        data_normalization_interface: Normalizer,
        min_num_actions_executed: int,
        action_chunk_size: int,
    ) -> Chunk:
        """A chunk that agrees with the leftover.

        min_num_actions_executed: s, rows of the old chunk executed before this observation.
        action_chunk_size: H.
        """

    def warmup(self) -> None:
        """Run every path once or more, so that no later call compiles or allocates anew."""

    def freeze_all_model_params(self) -> None:
        """No parameter asks for a gradient."""
