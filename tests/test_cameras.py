"""A camera's frames: whole, upright, in the right colours, rightly dated, and never old ones as
new; and what becomes of a camera that is absent, busy, black, unplugged or of another shape."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from camera_files import (
    CAMERA,
    HEIGHT,
    WIDTH,
    CameraSession,
    MakeSession,
    camera_config,
    film,
    noise,
    picture,
)
from camera_files import camera_sessions as camera_sessions
from launched import Launched, run_module, unique_session, until

from rt import clock
from rt.cameras.decoding import decode
from rt.cameras.device import stamp_ns, told
from rt.cameras.diagnosis import processes_using
from rt.cameras.feed import Feed
from rt.cameras.image import prepare
from rt.cameras.source import Source, open_source
from rt.child import Status
from rt.errors import RobotError
from rt.records import camera_child, frame_dtype
from rt.session import Session
from rt.shm import Ring
from rt.shm.buffers import Record

# Root, without the rights that let root open everything.
NOT_ALMIGHTY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-sys_admin")


class Fed(Feed):
    """A feed in this process."""

    def __init__(
        self, s: CameraSession, source: Callable[[], Source], first_frame_s: float = 60
    ) -> None:
        status = Status(s.session, camera_child(CAMERA))
        super().__init__(source, s.session.writer(f"frame.{CAMERA}"), status, first_frame_s)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()


class Scripted:
    """A source that gives a frame for each `.`, fails to read at each `x`, and is gone at `!`."""

    words = "scripted"

    def __init__(self, script: Iterator[str]) -> None:
        self._script = script
        self.closed = False

    def read(self, frame: Record) -> str:
        what = next(self._script)
        if what == "!":
            raise RobotError("it is gone")
        frame["t_capture"], frame["image"] = clock.now_ns(), 100
        return "" if what == "." else "a bad frame"

    def close(self) -> None:
        self.closed = True


# --- the image


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("rotate_deg", "turn"),
    [
        (0, None),
        (90, cv2.ROTATE_90_CLOCKWISE),
        (180, cv2.ROTATE_180),
        (270, cv2.ROTATE_90_COUNTERCLOCKWISE),
    ],
)
def test_an_image_is_what_turning_then_area_resizing_gives(
    rotate_deg: int, turn: int | None, colour: str
) -> None:
    full = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    out = np.zeros((3, 24, 32), np.uint8)
    prepare(full, out, rotate_deg=rotate_deg, swap_colours=colour == "rgb")
    turned = full if turn is None else cv2.rotate(full, turn)
    expected = cv2.resize(turned, (32, 24), interpolation=cv2.INTER_AREA)
    if colour == "rgb":
        expected = cv2.cvtColor(expected, cv2.COLOR_BGR2RGB)
    difference = out.transpose(1, 2, 0).astype(int) - expected
    assert abs(difference).max() <= 1  # a rounding


def test_a_process_publishes_upright_rgb_frames_that_are_dated_in_order(
    session: MakeSession, tmp_path: Path
) -> None:
    s = session(camera_config(film(tmp_path / "a.avi"), rotate_deg=180))
    began = clock.now_ns()
    s.start()
    assert s.until("running") == f"video file {WIDTH}x{HEIGHT} at 100 fps"
    last = began
    for _ in range(12):  # longer than the file
        frame = s.next_frame()
        assert last < int(frame["t_capture"]) <= clock.now_ns()
        last = int(frame["t_capture"])
    red, green, _ = frame["image"].astype(int)
    assert red[4:, 5:].min() > 200  # the red quarter, now at the bottom right
    assert green[:2, :3].min() > 120
    assert red[:2, :3].max() < 60


def test_a_frame_is_dated_back_by_its_camera_s_latency(tmp_path: Path) -> None:
    frame = np.zeros((), frame_dtype(6, 8))
    capture = cv2.VideoCapture(str(film(tmp_path / "a.avi")), cv2.CAP_FFMPEG)
    assert capture.grab()
    camera = camera_config(tmp_path / "a.avi", latency_ms=42.5)
    assert decode(capture, camera, 1_000_000_000, frame) == ""
    assert int(frame["t_capture"]) == 957_500_000


class Retrieved:
    """A capture that has grabbed this picture."""

    def __init__(self, picture: Any) -> None:
        self.retrieve = lambda: (True, picture)


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((48, 64), "gives frames without colours"),
        ((48, 64, 1), "gives frames without colours"),
        ((48, 64, 2), "gives frames without colours"),
        ((0, 0, 3), "gives a frame that cannot be decoded"),
        ((0, 0), "gives a frame that cannot be decoded"),
    ],
)
def test_a_picture_that_is_empty_or_without_colours_is_told(
    shape: tuple[int, ...], complaint: str
) -> None:
    camera = camera_config("/dev/video0", width=64, height=48)
    capture: Any = Retrieved(np.zeros(shape, np.uint8))
    assert complaint in decode(capture, camera, 0, np.zeros((), frame_dtype(6, 8)))


def test_a_driver_s_stamp_counts_if_it_is_of_our_clock() -> None:
    now = 5_000_000_000_000
    assert stamp_ns(4_999_970.5, now) == 4_999_970_500_000  # 29.5 ms ago
    assert stamp_ns(4_900_000.0, now) == 4_900_000_000_000  # it waited while we were stopped
    assert stamp_ns(1.79e12, now) == now  # the wall clock
    assert stamp_ns(0.0, 1_000_000_000) == 1_000_000_000  # none, soon after the start
    assert stamp_ns(now / 1e6 + 1, now) == now  # from the future


def test_what_was_granted_is_told_beside_what_was_asked() -> None:
    camera = camera_config("/dev/video0", width=640, height=480, fps=30)
    assert told(camera, "MJPG", 640, 480, 30.0) == "MJPG 640x480 at 30 fps"
    assert told(camera, "YUYV", 640, 480, 10.0) == (
        "asked for MJPG 640x480 at 30 fps, got YUYV 640x480 at 10 fps"
    )


# --- a camera that comes and goes


def test_an_unplugged_camera_is_told_and_found_again(session: MakeSession, tmp_path: Path) -> None:
    film(tmp_path / "a.avi")
    plug = tmp_path / "by-id"
    plug.symlink_to("a.avi")
    s = session(camera_config(plug))
    process = s.start()
    s.until("running")
    plug.unlink()
    s.until("lost")
    head = s.frames.head
    until("a second look", lambda: f"nothing is at {plug}" in s.status[1])
    assert s.frames.head == head  # the last frame is not repeated
    film(tmp_path / "b.avi", [255 - picture()] * 4)  # another device, under the same name
    plug.symlink_to("b.avi")
    s.until("running")
    assert s.next_frame()["image"][0, 0, 0] < 60
    assert process.poll() is None


def test_a_camera_that_comes_late_is_waited_for(session: MakeSession, tmp_path: Path) -> None:
    s = session(camera_config(tmp_path / "a.avi"))
    s.start()
    until("it to say so", lambda: s.status[0] == "opening" and "nothing is at" in s.status[1])
    film(tmp_path / "b.avi").rename(tmp_path / "a.avi")
    s.until("running")


def test_without_a_first_frame_in_time_it_ends_with_a_sentence(
    session: MakeSession, tmp_path: Path
) -> None:
    s = session(camera_config(tmp_path / "none"), state_timeout_s=0.2)
    assert s.start().wait(30) == 2
    state, detail = s.status
    assert state == "failed"
    assert detail == (
        f"camera head: no frame within 0.2 s: nothing is at {tmp_path}/none: plug the camera in, "
        "or name another source (ls -l /dev/v4l/by-id shows what is plugged in)"
    )


def test_a_restarted_process_waits_for_a_camera_that_was_seen_before(
    session: MakeSession, tmp_path: Path
) -> None:
    s = session(camera_config(film(tmp_path / "a.avi")), state_timeout_s=0.1)
    first = s.start()
    s.until("running")
    first.kill()
    first.wait()
    (tmp_path / "a.avi").rename(tmp_path / "b.avi")
    second = s.start()
    s.until("lost")
    seen = s.heartbeat
    until("another attempt", lambda: s.heartbeat > seen + 500_000_000)
    assert second.poll() is None
    (tmp_path / "b.avi").rename(tmp_path / "a.avi")
    s.until("running")


def scripted(s: CameraSession, script: str) -> tuple[Fed, list[Scripted]]:
    opened: list[Scripted] = []
    letters = iter(script)

    def open_it() -> Scripted:
        opened.append(Scripted(letters))
        return opened[-1]

    return Fed(s, open_it), opened


def test_single_bad_reads_are_passed_over(session: MakeSession) -> None:
    s = session(None, fake="none")
    script = ".x.xxxxxxxxx.xx."
    feed, opened = scripted(s, script)
    feed.steps(len(script))
    assert s.frames.head == script.count(".")
    assert len(opened) == 1


def test_after_ten_bad_reads_it_is_opened_again(session: MakeSession) -> None:
    s = session(None, fake="none")
    feed, opened = scripted(s, "." + 10 * "x" + "..!.")
    feed.steps(11)
    assert s.status == ("lost", "a bad frame")
    assert [source.closed for source in opened] == [True]
    feed.steps(2)
    assert s.status == ("running", "scripted")
    feed.step()
    assert s.status == ("lost", "it is gone")
    feed.step()
    assert [source.closed for source in opened] == [True, True, False]
    assert s.frames.head == 4


def test_a_stalled_camera_is_opened_again(
    session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rt.cameras.feed.STALLED_NS", 0)  # every read took so long
    s = session(None, fake="none")
    feed, opened = scripted(s, ".x.")
    feed.steps(3)
    assert [source.closed for source in opened] == [True, False]


# --- bad input


def refusal(s: CameraSession, source: Callable[[], Source]) -> str:
    """With what a camera that gives no first frame is given up."""
    feed = Fed(s, source, first_frame_s=0)
    with pytest.raises(RobotError) as caught:
        feed.steps(20)
    assert s.frames.head == 0
    return str(caught.value)


def text_file(folder: Path) -> Path:
    path = folder / "a.avi"
    path.write_text("no video\n")
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "a.avi"
    path.touch()
    return path


def header_only(folder: Path) -> Path:
    path = film(folder / "a.avi")
    os.truncate(path, 1000)
    return path


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (text_file, "is no video"),
        (empty_file, "is no video"),
        (header_only, "is no video|holds no frame"),
        (lambda folder: folder, "is no video"),
        (lambda _: Path("/dev/null"), "is no camera: it does not speak V4L2"),
        (lambda folder: folder / "none", "nothing is at"),
        (lambda folder: film(folder / "w.avi", [picture(96, 48)]), "96x48, expected the shape of"),
    ],
)
def test_what_is_no_camera_is_refused_with_the_reason(
    session: MakeSession, tmp_path: Path, make: Callable[[Path], Path], complaint: str
) -> None:
    s = session(camera_config(make(tmp_path)))
    said = refusal(s, lambda: open_source(s.config, CAMERA))
    assert re.search(complaint, said), said
    assert said.startswith("camera head: no frame within 0 s: ")
    assert "\n" not in said


def test_a_picture_of_another_size_and_the_same_shape_is_resized(
    session: MakeSession, tmp_path: Path
) -> None:
    s = session(camera_config(film(tmp_path / "a.avi", [picture(128, 96)])))
    s.start()
    assert s.until("running") == "video file 128x96 at 100 fps"


def test_a_truncated_video_is_played_as_far_as_it_goes(
    session: MakeSession, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.avi", [noise()] * 20)
    os.truncate(path, path.stat().st_size // 2)
    s = session(camera_config(path))
    s.start()
    s.until("running")
    until("more frames than it holds", lambda: s.frames.head > 25)


def test_a_black_picture_is_named_and_no_fault(session: MakeSession, tmp_path: Path) -> None:
    dark = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    plug = tmp_path / "plug"
    plug.symlink_to(film(tmp_path / "dark.avi", [dark] * 4))
    s = session(camera_config(plug))
    s.start()
    assert s.until("running").endswith("the picture is black")
    s.next_frame()
    film(tmp_path / "b.avi")
    (tmp_path / "new").symlink_to("b.avi")
    (tmp_path / "new").rename(plug)  # the cap is off
    until("the picture to be seen", lambda: "black" not in s.status[1])
    assert s.status[0] == "running"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up rights of root's")
def test_a_busy_device_and_one_without_permission_are_told_apart(
    session: MakeSession, tmp_path: Path
) -> None:
    # A terminal in exclusive mode: the kernel answers EBUSY, as it does for a camera in use.
    leader, follower = os.openpty()
    try:
        fcntl.ioctl(follower, termios.TIOCEXCL)
        name = os.ttyname(follower)
        busy = session(camera_config(name), state_timeout_s=0.1)
        Path(name).chmod(0o600)
        assert busy.start(*NOT_ALMIGHTY).wait(30) == 2
        assert f"{name} is busy: another program uses it" in busy.status[1]
        assert f"pid {os.getpid()}" in busy.status[1]
        fcntl.ioctl(follower, termios.TIOCNXCL)
        Path(name).chmod(0)
        forbidden = session(camera_config(name), state_timeout_s=0.1)
        assert forbidden.start(*NOT_ALMIGHTY).wait(30) == 2
        assert f"{name} is not yours to use: sudo usermod -aG video" in forbidden.status[1]
    finally:
        os.close(leader)
        os.close(follower)


def test_who_uses_a_device_is_found(tmp_path: Path) -> None:
    path = film(tmp_path / "a.avi")
    assert processes_using(str(path)) == []
    link = tmp_path / "link"
    link.symlink_to(path)
    with path.open("rb") as held, subprocess.Popen(["sleep", "60"], stdin=held) as user:
        try:
            assert processes_using(str(link)) == [f"sleep, pid {user.pid}"]
        finally:
            user.kill()


# --- the fake robot's view


@pytest.fixture
def fake() -> Iterator[tuple[Session, Callable[[], Ring]]]:
    """A session like a fake robot's, and what makes the ring of its camera."""
    session = Session(unique_session("fake"))

    def make() -> Ring:
        session.create({f"frame.{CAMERA}": (frame_dtype(12, 16), 4)})
        return session.writer(f"frame.{CAMERA}")

    yield session, make
    session.clean()


def show(ring: Ring, t_capture: int) -> None:
    frame = ring.buffer()
    frame["t_capture"] = t_capture
    frame["image"][0] = 200  # red
    frame["image"][:, :6, :8] = 50
    ring.write(frame)


def test_the_fake_robot_s_view_is_passed_on_as_it_is(
    session: MakeSession,
    fake: tuple[Session, Callable[[], Ring]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    them, make = fake
    ring = make()
    show(ring, 1)
    upside_down = camera_config("/dev/none", rotate_deg=180, latency_ms=50)
    s = session(upside_down, fake=them.name)
    source = open_source(s.config, CAMERA)
    feed = Fed(s, lambda: source)
    monkeypatch.setattr("rt.cameras.fake_view.PATIENCE_NS", 0)
    feed.step()
    assert s.frames.head == 0  # what a dead one has left is not new
    show(ring, 12345)
    feed.step()
    assert s.frames.read_latest(s.frame) == 0
    assert int(s.frame["t_capture"]) == 12345
    assert s.frame["image"][:, 0, 0].tolist() == [50, 50, 50]
    assert s.frame["image"][:, -1, -1].tolist() == [200, 0, 0]
    assert s.status == ("running", "view of the fake robot, 16x12")


def test_a_fake_robot_that_is_started_again_is_found_again(
    session: MakeSession, fake: tuple[Session, Callable[[], Ring]]
) -> None:
    them, make = fake
    s = session(None, fake=them.name)
    process = s.start()
    until("it to wait", lambda: f"the fake robot {them.name} is gone" in s.status[1])
    first = make()
    until("its view", lambda: show(first, 1) or s.status[0] == "running")
    them.clean()
    s.until("lost")
    second = make()
    until("its view", lambda: show(second, 2) or s.status[0] == "running")
    s.frames.read_latest(s.frame)
    assert int(s.frame["t_capture"]) == 2
    assert process.poll() is None


# --- in a session

DRIVER = """
from rt import clock
from rt.robots.robot import Backend
from rt.testing import FakeRobot
BACKENDS = {"bench": Backend(robot="rt_driver_driver:Arm")}

class Arm(FakeRobot):
    def __init__(self, config, session):
        super().__init__([0.0], clock=clock)
"""
ROBOT = """
name: arm
driver: driver.py
io: bench
policy: policies/sway/policy.yaml
state_keys: [/observation/joint_pos/arm]
joint_groups: [{name: arm, lower_deg: [-90], upper_deg: [90]}]
cameras:
  head: {source: %(folder)s/head, width: 64, height: 48, fps: 30}
  left: {source: %(folder)s/left, width: 64, height: 48, fps: 30}
"""
PARAMS = """{
  "HZ": 20, "max_delta_deg": 5, "policy_update_period": 25, "warmup_ticks": 0, "max_age_ms": 300,
  "mono_image_resize": {"width": 32, "height": 24}, "camera_names": ["head", "left"],
  "proprio_state_dim": 1, "action_dim": 1, "action_chunk_size": 50, "min_num_actions_executed": 5
}"""

TOPICS = '{"robot_id": "arm%d", "HZ": 20, "topics": {}}'


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    """A robot's folder; its cameras are the files head and left beside it."""
    folder = tmp_path / "arm"
    folder.mkdir()
    (folder / "driver.py").write_text(DRIVER)
    (folder / "robot.yaml").write_text(ROBOT % {"folder": tmp_path})
    (folder / "inference_runtime_params.json").write_text(PARAMS)
    (folder / "inference_runtime_topics.json").write_text(TOPICS % os.getpid())
    film(tmp_path / "film.avi", frames=10)
    for name in ("head", "left"):
        (tmp_path / name).symlink_to("film.avi")
    return folder


def test_an_unplugged_camera_stops_inference_and_its_return_starts_it_again(arm: Path) -> None:
    with Launched("cameras", "--robot", str(arm), "--yes") as run:
        taken = run.when_chunks(2)
        details = {p["name"]: p.get("detail") for p in taken["processes"]}
        assert details["camera.left"] == "video file 64x48 at 30 fps"
        assert [camera["name"] for camera in taken["cameras"]] == ["head", "left"]
        plug = arm.parent / "left"
        plug.unlink()

        def waiting(taken: dict[str, Any]) -> bool:
            told = {p["name"]: (p["state"], p.get("detail", "")) for p in taken["processes"]}
            is_lost = told["camera.left"][0] == "lost"
            return is_lost and told["inference"][1].startswith("camera left: newest frame is")

        published = run.when("inference to wait", waiting)["inference"]["published"]
        plug.symlink_to("film.avi")
        run.when("chunks again", lambda s: s["inference"]["published"] > published + 1)
        assert run.stop() == 0
        assert "restart" not in run.output
        run.nothing_left()


def test_a_launch_without_one_of_its_cameras_ends_with_a_sentence(arm: Path) -> None:
    (arm.parent / "left").unlink()
    early = ("--set", "robot.state_timeout_s=0.2")
    ended = run_module(
        "rt.launch", "--robot", str(arm), "--session", unique_session("dark"), "--yes", *early
    )
    assert ended.returncode == 2
    (said,) = ended.stderr.splitlines()
    assert said.startswith(f"camera left: no frame within 0.2 s: nothing is at {arm.parent}/left")
