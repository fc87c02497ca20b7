"""A lerobot checkpoint, by lerobot's own loaders: policy, processing of observations, statistics.

    config.json                   which policy, its shapes and features
    model.safetensors             the weights
    policy_preprocessor.json      the steps that make an observation the model's input
      and the .safetensors that it names: the statistics

lerobot is imported only here, when a policy is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from rt.errors import CheckpointError, MissingPackageError, PolicyError
from rt.infer.affine import Affine
from rt.infer.normalization import Normalizer
from rt.infer.optional import import_optional
from rt.infer.policies.lerobot_policy.statistics import affine

CLASSES = {"smolvla": "SmolVLAPolicy", "pi0": "PI0Policy", "pi05": "PI05Policy"}
PREPROCESSOR = "policy_preprocessor.json"
NO_VLM_PATH = (
    ": params.vlm_path names no folder, so the VLM's config and tokenizer must be had from the hub"
)
FILES = ("config.json", "model.safetensors", PREPROCESSOR)

import_lerobot = partial(
    import_optional, "lerobot", policy_type="lerobot_policy", install="pip install -e '.[lerobot]'"
)


@dataclass(frozen=True)
class Checkpoint:
    """Loaded, on the CPU."""

    policy: Any  # lerobot.policies.pretrained.PreTrainedPolicy
    preprocess: Callable[[dict[str, Any]], dict[str, Any]]  # a batch; its state is normalised
    normalizer: Normalizer


def load_checkpoint(
    pretrained_path: str, *, revision: str | None, vlm_path: str | None
) -> Checkpoint:
    """Load the checkpoint in a folder, or of a name on the hub. The parameters: LeRobotModel.

    Raises MissingPackageError, CheckpointError, and PolicyError for a policy that is no flow policy
    or that changes its actions after denoising.
    """
    config_class = import_lerobot("configs.policies").PreTrainedConfig
    import_lerobot("policies")  # registers the configurations
    folder = find(pretrained_path, revision)
    config = attempt(folder, lambda: config_class.from_pretrained(folder))
    if config.type not in CLASSES:
        raise PolicyError(
            f"{folder}: expected a policy of type {', '.join(CLASSES)}, got {config.type!r}"
        )
    installed = version("lerobot")
    if config.type != "smolvla" and tuple(map(int, installed.split(".")[:2])) < (0, 5):
        raise MissingPackageError(
            f"{config.type} needs lerobot 0.5 or newer on Python 3.12 or newer, got lerobot "
            f"{installed}: pip install 'lerobot[pi]>=0.5'"
        )
    if getattr(config, "adapt_to_pi_aloha", False):
        raise PolicyError(
            f"{folder}: adapt_to_pi_aloha rewrites actions after denoising, so they cannot be "
            "guided: train without it"
        )
    policy = load_policy(config, folder, vlm_path)
    pipeline = load_pipeline(config.type, folder, vlm_path)
    normalizer = take_over_normalization(pipeline, config, folder / PREPROCESSOR)
    return Checkpoint(policy, pipeline, normalizer)


def find(pretrained_path: str, revision: str | None) -> Path:
    """The checkpoint's folder; of a name on the hub, the folder that it is downloaded to."""
    folder = Path(pretrained_path).expanduser()
    if not folder.is_dir():
        if pretrained_path.startswith(("/", ".", "~")) or pretrained_path.count("/") != 1:
            raise CheckpointError(
                f"pretrained_path: expected a folder, or owner/name on the hub, but "
                f"{pretrained_path!r} is no folder"
            )
        hub = import_module("huggingface_hub")
        folder = attempt(
            Path(pretrained_path),
            lambda: Path(
                hub.snapshot_download(
                    pretrained_path, revision=revision, allow_patterns=["*.json", "*.safetensors"]
                )
            ),
        )
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing == [PREPROCESSOR]:
        raise CheckpointError(
            f"{folder}: has no {PREPROCESSOR}, so it was saved before lerobot 0.4: python -m "
            f"lerobot.processor.migrate_policy_normalization --pretrained-path {pretrained_path}"
        )
    if missing:
        raise CheckpointError(
            f"{folder}: no lerobot checkpoint: it lacks {', '.join(missing)}: name the folder "
            "'pretrained_model' that lerobot wrote"
        )
    return folder


def load_policy(config: Any, folder: Path, vlm_path: str | None) -> Any:
    """The policy with exactly its checkpoint's weights, in float32 and in eval mode."""
    config.device = "cpu"
    config.compile_model = False  # ours compiles
    config.rtc_config = None  # ours guides
    if config.type == "smolvla":
        config.load_vlm_weights = False  # the checkpoint has them; the hub's would be overwritten
        config.vlm_model_name = vlm_path or config.vlm_model_name
    else:
        config.dtype = "float32"  # rt.infer.acceleration casts
    module = import_lerobot(f"policies.{config.type}.modeling_{config.type}")
    policy_class = strict(getattr(module, CLASSES[config.type]))
    policy = attempt(
        folder,
        lambda: policy_class.from_pretrained(folder, config=config, strict=True),
        "" if vlm_path else NO_VLM_PATH,
    )
    if policy.not_loaded:
        raise CheckpointError(f"{folder}: {policy.not_loaded}")
    return policy.float().eval()


def strict(policy_class: Any) -> Any:
    """The class, but it remembers that no weights were loaded.

    lerobot's pi0 and pi05 print what went wrong, and go on with random weights.
    """

    class Strict(policy_class):  # type: ignore[misc]
        not_loaded = "model.safetensors cannot be read as tensors by name"

        def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
            try:
                result = super().load_state_dict(*args, **kwargs)
            except RuntimeError as error:
                self.not_loaded = one_line(error)
                raise
            self.not_loaded = ""
            return result

    return Strict


def load_pipeline(family: str, folder: Path, vlm_path: str | None) -> Any:
    """The checkpoint's own processing of observations, without its moves to a device."""
    import_lerobot(f"policies.{family}.processor_{family}")  # registers its steps
    processor = import_lerobot("processor")
    # Padded to one length, so that a new prompt does not make a compiled step be compiled anew.
    tokenizer = {"padding": "max_length"} | ({"tokenizer_name": vlm_path} if vlm_path else {})
    overrides = {"device_processor": {"device": "cpu"}, "tokenizer_processor": tokenizer}
    pipeline = attempt(
        folder,
        lambda: processor.PolicyProcessorPipeline.from_pretrained(
            folder, config_filename=PREPROCESSOR, overrides=overrides
        ),
        "" if vlm_path else NO_VLM_PATH,
    )
    device_step = processor.DeviceProcessorStep
    pipeline.steps = [step for step in pipeline.steps if not isinstance(step, device_step)]
    return pipeline


def take_over_normalization(pipeline: Any, config: Any, place: Path) -> Normalizer:
    """The pipeline's normalisation of states and actions, which it leaves to us from now on."""
    step = next((step for step in pipeline.steps if hasattr(step, "norm_map")), None)
    if step is None:
        raise CheckpointError(f"{place}: expected a step 'normalizer_processor', got none")
    modes = {kind.value: mode.value for kind, mode in step.norm_map.items()}
    step.norm_map = {k: m for k, m in step.norm_map.items() if k.value not in ("STATE", "ACTION")}
    statistics = step.state_dict()
    action_dim = config.action_feature.shape[0]

    def of(feature: str, kind: str, dims: int) -> Affine:
        return affine(statistics, feature, modes.get(kind, "IDENTITY"), dims, step.eps, place)

    relative = next((step for step in pipeline.steps if hasattr(step, "exclude_joints")), None)
    delta = None
    if relative is not None and relative.enabled:  # lerobot 0.5 and newer
        delta = np.array(relative._build_mask(action_dim))
    return Normalizer(
        of("observation.state", "STATE", config.robot_state_feature.shape[0]),
        of("action", "ACTION", action_dim),
        delta,
    )


def attempt(place: Path, load: Callable[[], Any], hint: str = "") -> Any:
    """`load()`. Raises CheckpointError: what is damaged or out of reach fails in many ways."""
    try:
        return load()
    except Exception as error:
        raise CheckpointError(
            f"{place}: lerobot cannot load it ({type(error).__name__}: {one_line(error)}){hint}"
        ) from error


def one_line(error: Exception) -> str:
    """Its words, without line breaks, at most 400 characters."""
    return " ".join(str(error).split())[:400]
