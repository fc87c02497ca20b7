"""`--to lerobot DIR`: a recording as a LeRobotDataset (v3.0), to learn from.

An episode for each of the recording's, a frame for each row that was executed and has its images,
HZ frames a second:

observation.state         (A,) float32, rad: as measured in the row's tick
action                    (A,) float32, rad: what was sent in that tick, after the limits
observation.images.<cam>  what the policy would have seen in that tick: RGB, as it was resized, and
                          once through JPEG
task                      the prompt; empty where none was given (a policy's own is not recorded)

State and action are in the order of robot.yaml's state_keys, as policies get and give them, and not
normalised.

What was not executed is left out, and counted: ramps, pauses, the shutdown, a dry run, and holds.
No policy chose to hold: who learned from it would learn to stand still. Where the robot stayed
where it was its episode goes on; where it may have been moved (no state, a fault, not following)
another begins. LeRobot's times count frames: the time that a hold took is not in them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.config import Config
from rt.errors import ConfigError, MissingPackageError
from rt.record.output import FREE_BYTES, free_bytes
from rt.record.reading import Recording
from rt.replay.beside import written_beside
from rt.replay.differences import told
from rt.replay.rows import episodes, left_out
from rt.replay.views import Views

CAMERA = "observation.images."  # and its name
SMALLEST = 64  # pixels that LeRobot's encoder takes; of 16 it dies, and we with it
# Twenty lines of each video, and a bar for what takes no time.
QUIET = {"SVT_LOG": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def convert(recording: Recording, folder: Path, *, images: bool = False) -> str:
    """Write the dataset to the new `folder`; returns in words what is in it. images: as PNG, which
    are exact and large, in place of video.

    Raises MissingPackageError without lerobot; ConfigError if `folder` exists or cannot be written,
    or there is no frame, not a whole number of them a second, or images are too small for video.
    """
    config, fps = recording.config, _fps(recording)
    features = _features(config, images=images)
    with written_beside(folder) as beside:
        dataset = _dataset_class().create(
            folder.name,
            fps,
            features,
            root=beside,
            robot_type=config.robot.name,
            use_videos=not images,
        )
        try:
            unseen = _add_episodes(dataset, recording, folder.parent)
        finally:  # before the folder goes: else it would be made anew
            dataset.finalize()
        count, frames = dataset.meta.total_episodes, dataset.meta.total_frames
        missing = f"{told(left_out(recording.ticks))}; rows without images: {unseen}"
        if not frames:
            raise ConfigError(
                f"{recording.path}: expected rows that were executed, and images of them, got none;"
                f" ticks that were not: {missing}"
            )
    cameras = ", ".join(config.params.camera_names) or "none"
    return (
        f"wrote {folder}: episodes {count}, frames {frames}, {fps} a second, "
        f"{'PNG' if images else 'video'} of cameras {cameras}\nleft out, ticks: {missing}"
    )


def _add_episodes(dataset: Any, recording: Recording, disk: Path) -> int:
    """Returns how many rows had no images. disk: a folder on the one that is written to."""
    views, unseen = Views(recording), 0
    for number, rows in episodes(recording.ticks, recording.config.params.ticks_per_row):
        count = 0
        for frame in _frames(views, rows):
            _check_room(disk)
            dataset.add_frame(frame)
            count += 1
        if count:
            dataset.save_episode()
        unseen += len(rows) - count
        print(f"episode {number}: {count} frames", file=sys.stderr)
    return unseen


def _check_room(disk: Path) -> None:
    """LeRobot goes on without an image that it could not write, and its video is short of it."""
    if free_bytes(disk) < FREE_BYTES:
        raise ConfigError(f"{disk}: expected {FREE_BYTES / 1e6:.0f} MB free on its disk: free some")


def _frames(views: Views, rows: NDArray[Any]) -> Iterator[dict[str, Any]]:
    """Of the rows' tick records (n,) those with images, as frames."""
    for row in rows:
        seen = views.observe([row], int(row["t_wake"]))
        if seen is None:
            continue
        frame = {"observation.state": seen.pop("proprio")[-1]}
        frame |= {"action": row["command"].astype(np.float32), "task": seen.pop("prompt", "")}
        yield frame | {CAMERA + name: i[-1].transpose(1, 2, 0) for name, i in seen.items()}


def _features(config: Config, *, images: bool) -> dict[str, Any]:
    """What LeRobot is to expect in a frame."""
    size = config.params.mono_image_resize
    names = config.params.camera_names
    if names and not images and min(size.width, size.height) < SMALLEST:
        raise ConfigError(
            f"expected images of at least {SMALLEST} x {SMALLEST} pixels for a video, got "
            f"{size.width} x {size.height}: keep them as they are with --images"
        )
    joints = {"dtype": "float32", "shape": (len(config.joint_names),), "names": config.joint_names}
    image = {
        "dtype": "image" if images else "video",
        "shape": (size.height, size.width, 3),
        "names": ["height", "width", "channels"],
    }
    cameras = {CAMERA + name: image for name in names}
    return {"observation.state": joints, "action": joints} | cameras


def _fps(recording: Recording) -> int:
    hz = recording.config.params.HZ
    if not hz.is_integer():
        raise ConfigError(
            f"{recording.path}: expected a whole number of rows a second, as LeRobot's fps is, got "
            f"HZ {hz:g}"
        )
    return int(hz)


def _dataset_class() -> Any:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return import_module("lerobot.datasets.lerobot_dataset").LeRobotDataset
    except (ImportError, RuntimeError) as error:  # the latter from torchvision of another build
        raise MissingPackageError(
            f"--to lerobot needs lerobot ({error}): pip install -e '.[lerobot,record]' in an "
            "environment of its own, as docs/policies_lerobot.md shows"
        ) from error
