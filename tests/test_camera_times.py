"""What capture times are for: a stale frame is not observed, histories show the same moments, and
inspect shows age, rate and skew."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_files import CAMERA, CameraSession, MakeSession, camera_config, film
from camera_files import camera_sessions as camera_sessions
from launched import until

from rt import clock
from rt.cameras.pictures import save_frames
from rt.dashboard.text import render
from rt.errors import SessionError
from rt.infer.observation import Observer
from rt.shm import Ring
from rt.snapshot import Snapshots

MS = 1_000_000


def test_a_stopped_camera_is_not_observed_and_inference_says_so(
    session: MakeSession, tmp_path: Path
) -> None:
    s = session(camera_config(film(tmp_path / "a.avi")), max_age_ms=200)
    observer = Observer(s.config, s.session)
    with s.session.writer("tick") as ticks:
        record = ticks.buffer()
        process = s.start()
        s.until("running")
        until("an observation", lambda: observer.observe(record))
        process.send_signal(signal.SIGSTOP)
        until("it to grow old", lambda: observer.observe(record) is None)
        assert re.fullmatch(r"camera head: newest frame is \d+ ms old", observer.waiting_for)
        process.send_signal(signal.SIGCONT)
        seen = until("an observation", lambda: observer.observe(record))
        assert seen[CAMERA].shape == (1, 3, 6, 8)
        assert observer.waiting_for == ""


def test_a_frame_from_the_future_is_not_observed(session: MakeSession, tmp_path: Path) -> None:
    s = session(camera_config(film(tmp_path / "a.avi")))
    with s.session.writer("tick") as ticks, s.session.writer("frame.head") as frames:
        observer, record = Observer(s.config, s.session), ticks.buffer()
        write_frames(frames, [clock.now_ns() + 3_600_000 * MS])
        assert observer.observe(record) is None
        assert observer.waiting_for == (
            "camera head: the time of its newest frame lies in the future"
        )
        write_frames(frames, [clock.now_ns()])
        assert observer.observe(record)


def write_frames(ring: Ring, times: list[int]) -> None:
    """A frame at each of the times, with its index for a picture."""
    for index, t_capture in enumerate(times):
        frame = ring.buffer()
        frame["t_capture"], frame["image"] = t_capture, index
        ring.write(frame)


def observed(s: CameraSession, times: dict[str, list[int]]) -> dict[str, list[int]]:
    """Which of its frames each camera's history shows."""
    for name, captured in times.items():
        with s.session.writer(f"frame.{name}") as ring:
            write_frames(ring, captured)
    with s.session.writer("tick") as ticks:
        seen = Observer(s.config, s.session).observe(ticks.buffer())
    assert seen is not None
    return {name: seen[name][:, 0, 0, 0].tolist() for name in times}


def test_an_image_history_is_picked_by_the_times_of_a_camera_that_jitters_and_drops_frames(
    session: MakeSession,
) -> None:
    # 20 Hz, 2 rows apart: 100 ms. Each 100 ms, a frame is due every 33.
    s = session(camera_config("/dev/none"), num_img_obs=3, img_obs_every=2)
    now = clock.now_ns()
    ago = [230, 201, 167, 133, 99, 0]  # ms; three frames in a row were dropped
    assert observed(s, {CAMERA: [now - t * MS for t in ago]}) == {CAMERA: [1, 4, 5]}


def test_cameras_of_different_latencies_show_the_same_moments(session: MakeSession) -> None:
    slow, fast = CAMERA, "fast"
    cameras = {name: camera_config("/dev/none") for name in (slow, fast)}
    s = session(None, camera_names=(slow, fast), cameras=cameras, num_img_obs=2, img_obs_every=1)
    now = clock.now_ns()
    # Frames every 25 ms. The slow one's newest was captured 75 ms before the fast one's.
    fast_ms = [200, 175, 150, 125, 100, 75, 50, 25, 0]
    times = {fast: fast_ms, slow: [t + 76 for t in fast_ms]}
    shown = observed(s, {name: [now - t * MS for t in ago] for name, ago in times.items()})
    assert [times[slow][i] for i in shown[slow]] == [126, 76]
    assert [times[fast][i] for i in shown[fast]] == [125, 75]


def test_inspect_shows_age_rate_and_skew(session: MakeSession, tmp_path: Path) -> None:
    other = "left"
    cameras = {name: camera_config("/dev/none") for name in (CAMERA, other)}
    s = session(None, camera_names=(CAMERA, other), cameras=cameras)
    now = clock.now_ns()
    for name, latest in ((CAMERA, 0), (other, 30)):
        with s.session.writer(f"frame.{name}") as ring:
            write_frames(ring, [now - (latest + 20 * i) * MS for i in (3, 2, 1, 0)])
    with s.session.writer("tick") as ticks:
        record = ticks.buffer()
        record["t_state"] = now - 10 * MS
        ticks.write(record)
    snapshots = Snapshots(s.session)
    taken = snapshots.take()
    snapshots.close()
    head, left = taken["cameras"]
    assert (head["name"], head["rate_hz"], head["skew_ms"]) == (CAMERA, 50.0, 10.0)
    assert (left["name"], left["rate_hz"], left["skew_ms"]) == (other, 50.0, -20.0)
    assert left["age_ms"] == pytest.approx(head["age_ms"] + 30, abs=0.11)
    assert taken["cameras_apart_ms"] == 30.0
    assert "their newest frames lie 30.0 ms apart" in render(taken)
    assert "+10.0 ms" in render(taken)


def test_inspect_shows_a_camera_without_frames(session: MakeSession) -> None:
    s = session(camera_config("/dev/none"))
    snapshots = Snapshots(s.session)
    taken = snapshots.take()
    snapshots.close()
    nothing = {"age_ms": None, "rate_hz": None, "skew_ms": None}
    assert taken["cameras"] == [{"name": CAMERA, **nothing}]
    assert taken["cameras_apart_ms"] is None
    assert render(taken)


def test_the_newest_frame_of_each_camera_is_saved_as_the_policy_sees_it(
    session: MakeSession, tmp_path: Path
) -> None:
    other = "left"
    cameras = {name: camera_config("/dev/none") for name in (CAMERA, other)}
    s = session(None, camera_names=(CAMERA, other), cameras=cameras)
    with s.session.writer(f"frame.{CAMERA}") as ring:
        frame = ring.buffer()
        ring.write(frame)
        newest = np.random.default_rng(0).integers(0, 256, frame["image"].shape, np.uint8)
        frame["image"], frame["t_capture"] = newest, clock.now_ns()
        ring.write(frame)
    folder = tmp_path / "pictures" / "of_today"
    saved, missing = save_frames(s.session, folder)
    assert saved.startswith(f"{CAMERA}: {folder / CAMERA}.png, captured ")
    assert missing == f"{other}: no frame yet"
    assert [path.name for path in folder.iterdir()] == [f"{CAMERA}.png"]
    picture = cv2.imread(str(folder / f"{CAMERA}.png"))
    assert picture is not None
    np.testing.assert_array_equal(picture[..., ::-1].transpose(2, 0, 1), newest)

    (tmp_path / "file").touch()
    with pytest.raises(SessionError, match=r"^--frames .*file: expected a folder to write to"):
        save_frames(s.session, tmp_path / "file")
