"""What `rt.replay --to lerobot` writes, LeRobot reads: the recording's numbers, bit for bit."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from two_episodes import (
    EXECUTED,
    LEFT_OUT,
    PROMPTS,
    UNSEEN,
    files_up_to,
    record_two_episodes,
)

from rt.config import ImageSize
from rt.errors import ConfigError
from rt.record.reading import Recording
from rt.replay.__main__ import main
from rt.replay.lerobot import convert
from rt.replay.views import decode

CAMERAS = ("head", "hand")
EPISODES = {1: EXECUTED[1], 2: EXECUTED[2][:-UNSEEN]}
FRAMES = [(number, tick) for number, ticks in EPISODES.items() for tick in ticks]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record_two_episodes(tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What reading caches is not to lie among the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def of_tick(recording: Recording, tick: int) -> Any:
    return recording.ticks[recording.ticks["tick"] == tick][0]


def seen(recording: Recording, camera: str, tick: int) -> Any:
    """(3, height, width): the newest image when that tick woke."""
    t_ns = int(of_tick(recording, tick)["t_wake"])
    return decode([jpeg for t, jpeg in recording.frames(camera) if t <= t_ns][-1])


def commands(recording: Recording) -> Any:
    return np.stack([of_tick(recording, k)["command"] for _, k in FRAMES]).astype(np.float32)


def test_frames_are_the_executed_rows_bit_for_bit(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dataset"
    assert main([str(recording.path), "--to", "lerobot", str(folder), "--images"]) == 0
    told = capsys.readouterr().out
    assert f"episodes 2, frames {len(FRAMES)}, 20 a second, PNG of cameras head, hand" in told
    assert f"left out, ticks: {LEFT_OUT}; rows without images: {UNSEEN}" in told
    assert list(tmp_path.iterdir()) == [folder]

    back = LeRobotDataset("local/dataset", root=folder)
    assert (back.num_episodes, len(back), back.fps) == (2, len(FRAMES), 20)
    assert back.meta.robot_type == recording.config.robot.name
    for key in ("observation.state", "action"):
        assert list(back.features[key]["names"]) == list(recording.config.joint_names)
    for i, (number, k) in enumerate(FRAMES):
        frame, tick = back[i], of_tick(recording, k)
        assert frame["observation.state"].dtype == frame["action"].dtype == torch.float32
        np.testing.assert_array_equal(frame["observation.state"], tick["state"].astype("f4"))
        for camera in CAMERAS:
            image = (frame[f"observation.images.{camera}"] * 255).round().to(torch.uint8)
            np.testing.assert_array_equal(image, seen(recording, camera, k))
        assert frame["task"] == PROMPTS[number]
        assert frame["episode_index"] == number - 1
    np.testing.assert_array_equal(np.stack(back.hf_dataset["action"]), commands(recording))
    times = [float(t) for t in back.hf_dataset["timestamp"]]
    assert times == pytest.approx([i / 20 for t in EPISODES.values() for i in range(len(t))])


def test_a_video_shows_what_was_seen_in_each_row(recording: Recording, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    assert "video of cameras head, hand" in convert(recording, folder)
    back = LeRobotDataset("local/dataset", root=folder)
    np.testing.assert_array_equal(np.stack(back.hf_dataset["action"]), commands(recording))
    for camera in CAMERAS:
        key = f"observation.images.{camera}"
        with av.open(str(folder / back.meta.get_video_file_path(1, key))) as video:
            shown = np.stack([f.to_ndarray(format="rgb24") for f in video.decode(video=0)])
        wanted = np.stack([seen(recording, camera, k) for _, k in FRAMES]).transpose(0, 2, 3, 1)
        assert shown.shape == wanted.shape
        apart = np.abs(shown - wanted.astype(float)).mean(axis=(1, 2, 3))
        assert apart.max() < 4, "of 255; from one image to the next it is 15"
        begins = back.meta.episodes[1][f"videos/{key}/from_timestamp"]
        assert begins == pytest.approx(len(EPISODES[1]) / 20)


def test_a_recording_without_cameras_has_states_and_actions(tmp_path: Path) -> None:
    size = ImageSize(width=8, height=6)  # too small for a video, but none is asked for
    recording = record_two_episodes(tmp_path, camera_names=(), mono_image_resize=size)
    folder = tmp_path / "dataset"
    told = convert(recording, folder)
    assert "rows without images: 0" in told
    back = LeRobotDataset("local/dataset", root=folder)
    assert len(back) == sum(len(ticks) for ticks in EXECUTED.values())
    assert back.meta.camera_keys == []


def test_of_a_cut_recording_there_is_what_is_left(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, folder = tmp_path / "cut.mcap", tmp_path / "dataset"
    data = recording.path.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])
    assert main([str(cut), "--to", "lerobot", str(folder), "--images"]) == 0
    assert capsys.readouterr().err.startswith("warning: ")
    actions = np.stack(LeRobotDataset("local/dataset", root=folder).hf_dataset["action"])
    assert len(EPISODES[1]) < len(actions) < len(FRAMES)
    np.testing.assert_array_equal(actions, commands(recording)[: len(actions)])


# Nothing half.


def test_of_a_disk_that_is_full_nothing_is_left(recording: Recording, tmp_path: Path) -> None:
    with files_up_to(20_000), pytest.raises(ConfigError, match="can be written to, got: "):
        convert(recording, tmp_path / "dataset", images=True)
    gc.collect()  # a dataset that was not finalized writes what it has when it goes
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_could_not_be_written_is_not_passed_over(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([10**9] * 20 + [10**6])
    monkeypatch.setattr("rt.replay.lerobot.free_bytes", lambda folder: next(left))
    with pytest.raises(ConfigError, match="expected 67 MB free"):
        convert(recording, tmp_path / "dataset")
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_who_stops_it_has_nothing_half(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LeRobotDataset, "_save_episode_video", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(recording, tmp_path / "dataset")
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_of_nothing_is_refused(recording: Recording, tmp_path: Path) -> None:
    dry = Recording(recording.path)
    dry.ticks["dry_run"] = 1
    with pytest.raises(ConfigError, match=r"rows that were executed.*got none.*dry run 44"):
        convert(dry, tmp_path / "dataset")
    assert list(tmp_path.iterdir()) == []
