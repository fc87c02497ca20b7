"""A recording has all that was published, bit for bit, and others can read it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Event as Flag
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launched import ROOT, run_module, start_module, unique_session, until
from making import Simulate, late_once, with_silence
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from recorded import RecordedSession, record_all, scene
from rosbags.highlevel import AnyReader

from rt import clock
from rt.events import Event, Events
from rt.record import writer
from rt.record.messages import (
    RecordType,
    decode_event,
    decode_image,
    encode_event,
    encode_image,
)
from rt.record.origin import git_version, origin
from rt.record.output import Output
from rt.record.reading import Recording
from rt.record.recorder import Recorder
from rt.records import STATUS, Hold, chunk_dtype, text, tick_dtype
from rt.session import SHM
from rt.testing import TWO_ARMS, SimulatedRun, config

JOINTS = 24


@pytest.fixture
def session() -> Iterator[RecordedSession]:
    with RecordedSession(joint_groups=TWO_ARMS, camera_names=("head", "wrist")) as session:
        yield session


@pytest.fixture
def run(simulate: Simulate) -> SimulatedRun:
    """200 ticks with holds, and the chunks that they executed."""
    run = simulate(config(joint_groups=TWO_ARMS), delay=late_once)
    return with_silence(run, 200, at=100, silent=5)


def publish_run(session: RecordedSession, run: SimulatedRun) -> None:
    """All that happened in it; of the newest chunks as many as their ring holds."""
    for chunk in run.chunks[-8:]:
        session.publish("chunk", chunk)
    for tick in run.ticks:
        session.publish("tick", tick)


def same_bits(one: Any, other: Any) -> bool:
    """Whether two structured arrays are of one dtype, and of the same bytes."""
    return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())


# What is in it.


def test_what_is_recorded_is_read_back_bit_for_bit(
    session: RecordedSession, run: SimulatedRun, tmp_path: Path
) -> None:
    recording = Recording(record_all(session, tmp_path, lambda: publish_run(session, run)))
    assert recording.problem == ""
    assert same_bits(recording.ticks, np.array(run.ticks))
    assert {Hold.NONE, Hold.NO_STATE} <= set(recording.ticks["hold"].tolist())
    assert list(recording.chunks) == list(range(8))
    for chunk, published in zip(recording.chunks.values(), run.chunks[-8:], strict=True):
        assert same_bits(chunk, published)


@given(st.data())
def test_no_bit_of_any_record_is_changed(data: st.DataObject) -> None:
    joints, horizon = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 5))
    dtype = data.draw(st.sampled_from([tick_dtype(joints, joints), chunk_dtype(horizon, joints)]))
    count = data.draw(st.integers(0, 3))
    octets = data.draw(st.binary(min_size=dtype.itemsize * count, max_size=dtype.itemsize * count))
    records = np.frombuffer(bytearray(octets), dtype).copy()
    for name in dtype.names or ():
        if dtype[name].kind == "S":
            size = dtype[name].itemsize
            words = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=size // 4))
            records[name] = words.encode()
    kind = RecordType("rt_msgs/msg/Any", dtype)
    assert same_bits(kind.decode(kind.encode(records)), records)


def test_a_character_that_its_field_cut_is_left_out(session: RecordedSession) -> None:
    kind = RecordType("rt_msgs/msg/Tick", tick_dtype(1, 1))
    records = np.zeros(1, tick_dtype(1, 1))
    records["why"] = ("x" * 159 + "ä").encode()[:160]
    assert text(kind.decode(kind.encode(records))["why"][0]) == "x" * 159


def test_what_happened_is_told_in_it(
    session: RecordedSession, run: SimulatedRun, tmp_path: Path
) -> None:
    path = record_all(session, tmp_path, lambda: publish_run(session, run))
    with (
        session.session.reader("chunk") as chunks,
        session.session.reader("status.inference") as inference,
    ):
        expected = Events(chunks, inference, 1).of(np.array(run.ticks))
    assert {"hold", "resumed"} <= {event.kind for event in expected}
    assert Recording(path).events == expected
    with path.open("rb") as file:
        events = make_reader(file).iter_messages(["/rt/event"], log_time_order=False)
        assert [m.sequence for _, _, m in events] == list(range(len(expected)))


@pytest.mark.parametrize("tick", [-1, 0, 7, 2**32 - 2])
def test_an_event_is_read_back_as_it_was(tick: int) -> None:
    event = Event(1_234_567_890_123, tick, "hold", "hold no_state: tøpic is late", "NO_STATE")
    assert decode_event(event.t_ns, encode_event(event.t_ns, event)) == event


def test_an_image_that_is_cut_short_is_none() -> None:
    message = encode_image(1, "head", b"jpeg's bytes")
    assert decode_image(message) == b"jpeg's bytes"
    with pytest.raises(ValueError, match="expected 12 bytes, got 11"):
        decode_image(message[:-1])


def test_images_are_what_the_camera_showed(session: RecordedSession, tmp_path: Path) -> None:
    size = session.config.params.mono_image_resize
    shown = [(1000 + i, scene(size.height, size.width, 50 * i)) for i in range(5)]

    def publish() -> None:
        for t_ns, image in shown:
            session.publish("frame.wrist", t_capture=t_ns, image=image)

    recording = Recording(record_all(session, tmp_path, publish))
    frames = list(recording.frames("wrist"))
    assert [t_ns for t_ns, _ in frames] == [t_ns for t_ns, _ in shown]
    for (_, jpeg), (_, image) in zip(frames, shown, strict=True):
        bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(bgr[..., ::-1].transpose(2, 0, 1).astype(int) - image).mean() < 12
    assert list(recording.frames("head")) == []


def test_it_tells_of_what_it_is(session: RecordedSession, tmp_path: Path) -> None:
    recording = Recording(record_all(session, tmp_path, lambda: None))
    assert recording.config == session.config
    meta = recording.meta
    assert meta["layout"] == "2"
    assert meta["session"] == session.session.name
    assert (meta["robot"], meta["algorithm"]) == ("fake", "rtc")
    assert meta["git"] == git_version(ROOT)
    assert meta["started"][:2] == "20"
    assert recording.path.name.startswith(f"{session.session.name}_")
    assert recording.path.suffix == ".mcap"
    assert abs(recording.offset_ns - (time.time_ns() - clock.now_ns())) < 60e9


def test_the_commit_is_told_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_version(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    assert git_version(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    assert git_version(tmp_path) == f"{commit}-dirty"
    (tmp_path / "installed").mkdir()
    assert git_version(tmp_path / "installed") == "", "the project around it is another"


# What others read.


def some_of_all(session: RecordedSession) -> dict[str, Any]:
    """One record of each kind, published; the tick's positions and times."""
    position = np.random.default_rng(0).normal(size=(2, JOINTS))
    times = {"t_state": 5_000_000_001, "t_done": 6_000_000_002}
    session.publish(
        "tick", tick=3, hold=Hold.EXPIRED, state=position[0], command=position[1], **times
    )
    session.publish("chunk", t_publish=7, weights=1, actions=np.arange(8 * JOINTS).reshape(8, -1))
    size = session.config.params.mono_image_resize
    session.publish("frame.head", t_capture=8, image=scene(size.height, size.width))
    return {"state": position[0], "command": position[1], **times}


def check_decoded(messages: dict[str, Any], expected: dict[str, Any], recording: Recording) -> None:
    """By topic the one message, decoded by somebody else."""
    names = list(recording.config.joint_names)
    for topic, field, stamped in (
        ("/observation/state", "state", "t_state"),
        ("/action/state", "command", "t_done"),
    ):
        message = messages[topic]
        assert list(message.name) == names
        assert np.array(message.position).tobytes() == expected[field].tobytes()
        assert len(message.velocity) == len(message.effort) == 0
        assert wall_ns(message.header.stamp) == expected[stamped] + recording.offset_ns
    image = messages["/observation/images/head"]
    assert (image.format, image.header.frame_id) == ("jpeg", "head")
    assert wall_ns(image.header.stamp) == 8 + recording.offset_ns
    assert [(8, bytes(image.data))] == list(recording.frames("head"))
    tick, chunk, log = messages["/rt/tick"], messages["/rt/chunk"], messages["/rt/event"]
    assert (tick.tick, tick.hold, tick.why) == (3, Hold.EXPIRED, "")
    assert np.array(tick.state).tobytes() == expected["state"].tobytes()
    assert list(chunk.actions) == list(range(8 * JOINTS))
    assert (log.level, log.name, log.msg) == (30, "hold", "hold expired")
    assert (log.function, log.line) == ("EXPIRED", 3)


def wall_ns(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def test_rosbags_reads_it(session: RecordedSession, tmp_path: Path) -> None:
    expected: dict[str, Any] = {}
    path = record_all(session, tmp_path, lambda: expected.update(some_of_all(session)))
    with AnyReader([path]) as reader:
        connections = [c for c in reader.connections if c.topic != "/rt/recorder"]
        decoded = {
            connection.topic: reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages(connections)
        }
    check_decoded(decoded, expected, Recording(path))


def test_mcap_ros2_support_reads_it(session: RecordedSession, tmp_path: Path) -> None:
    expected: dict[str, Any] = {}
    path = record_all(session, tmp_path, lambda: expected.update(some_of_all(session)))
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        topics = [c.topic for c in reader.get_summary().channels.values()]
        topics.remove("/rt/recorder")
        found = list(reader.iter_decoded_messages(topics))
        assert {m.schema.name for m in found} == {
            "sensor_msgs/msg/JointState",
            "sensor_msgs/msg/CompressedImage",
            "rcl_interfaces/msg/Log",
            "rt_msgs/msg/Tick",
            "rt_msgs/msg/Chunk",
        }
        check_decoded(
            {m.channel.topic: m.decoded_message for m in found}, expected, Recording(path)
        )
        shapes = {c.topic: c.metadata for c in reader.get_summary().channels.values()}
        assert shapes["/rt/chunk"] == {"actions": f"[8, {JOINTS}]"}


def test_every_message_tells_its_index_and_when_it_was_published(
    session: RecordedSession, tmp_path: Path
) -> None:
    for _ in range(3):  # before the recording, and still in their rings
        some_of_all(session)
    path = record_all(session, tmp_path, lambda: some_of_all(session))
    offset = Recording(path).offset_ns
    with path.open("rb") as file:
        told = {
            (channel.topic, message.sequence, message.log_time - offset)
            for _, channel, message in make_reader(file).iter_messages()
            if channel.topic not in ("/rt/recorder", "/rt/event")
        }
    assert told == {
        (topic, index, t_ns)
        for index in range(4)
        for topic, t_ns in (
            ("/rt/tick", 6_000_000_002),
            ("/observation/state", 6_000_000_002),
            ("/action/state", 6_000_000_002),
            ("/rt/chunk", 7),
            ("/observation/images/head", 8),
        )
    }


def test_a_recording_is_its_owners_alone(session: RecordedSession, tmp_path: Path) -> None:
    path = record_all(session, tmp_path, lambda: None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_recordings_of_one_second_have_names_of_their_own(
    session: RecordedSession, tmp_path: Path
) -> None:
    paths = {record_all(session, tmp_path, lambda: None) for _ in range(5)}
    assert len(paths) == 5
    assert {Recording(path).problem for path in paths} == {""}


# What is not in it is counted.


def gaps(recording: Recording) -> int:
    """Of ticks, as their numbers tell."""
    return sum(int(b - a) - 1 for a, b in pairwise(recording.ticks["tick"]))


def test_records_that_were_overwritten_are_counted_by_their_ring(
    session: RecordedSession, tmp_path: Path
) -> None:
    with Recorder(session.session, tmp_path) as recorder:
        session.publish_ticks([0])
        session.publish("frame.wrist", t_capture=1)
        recorder.step()
        assert "lost: none" in str(recorder)
        session.publish_ticks(range(1, 3001))
        for t in range(20):
            session.publish("frame.wrist", t_capture=t)
        recorder.step()
    recording = Recording(recorder.output.path)
    assert recording.lost == {"tick": 952, "chunk": 0, "frame.head": 0, "frame.wrist": 14}
    assert gaps(recording) == 952
    assert len(list(recording.frames("wrist"))) == 1 + 20 - 14
    assert "lost: 952 of tick, 14 of frame.wrist" in str(recorder)
    with recording.path.open("rb") as file:
        messages = make_reader(file).get_summary().statistics.message_count
    size = recording.path.stat().st_size
    assert str(recorder).startswith(f"{recording.path}: {size / 1e6:.1f} MB, {messages} messages,")


def test_it_begins_with_what_its_rings_hold_and_what_was_before_is_not_lost(
    session: RecordedSession, tmp_path: Path
) -> None:
    session.publish_ticks(range(5000))
    for n in range(200):
        session.publish("chunk", first_tick=n)
        session.publish("frame.head", t_capture=n)
    recording = Recording(record_all(session, tmp_path, lambda: session.publish_ticks([5000])))
    assert recording.ticks["tick"].tolist() == list(range(5000 - 1056, 5001))
    assert list(recording.chunks) == list(range(136, 200))
    assert [t_ns for t_ns, _ in recording.frames("head")] == [196, 197, 198, 199]
    assert set(recording.lost.values()) == {0}


def test_ticks_that_were_overwritten_are_told_as_missed_once(
    session: RecordedSession, tmp_path: Path
) -> None:
    session.publish_ticks(range(5000))  # of which no more is read than lies in the ring
    with Recorder(session.session, tmp_path) as recorder:
        recorder.step()
        session.publish_ticks(range(5000, 8000))
        recorder.step()
        session.publish_ticks([8000])
    (event,) = Recording(recorder.output.path).events
    assert (event.tick, event.kind) == (7999, "missed")
    assert event.words == "952 ticks overwritten unread: what only they held is not told"


def test_a_chunk_that_is_refused_after_the_last_tick_is_told_too(
    session: RecordedSession, tmp_path: Path
) -> None:
    with Recorder(session.session, tmp_path) as recorder:
        session.publish_ticks([7])
        recorder.step()
        session.publish("status.inference", pid=1, dropped=1, detail=b"not finite")
    (event,) = Recording(recorder.output.path).events
    assert (event.tick, event.kind, event.reason) == (7, "refused_chunk", "not finite")


def test_git_may_take_longer_than_a_ring_of_frames(
    session: RecordedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: Path) -> str:
        for t in range(20):
            session.publish("frame.head", t_capture=t)
        return ""

    monkeypatch.setattr("rt.record.origin.git_version", slow)
    recording = Recording(record_all(session, tmp_path, lambda: None))
    assert recording.lost["frame.head"] == 0
    assert [t_ns for t_ns, _ in recording.frames("head")] == [16, 17, 18, 19]


def test_a_slow_disk_costs_records_and_not_memory_and_they_are_counted(
    session: RecordedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_moves, write = Flag(), Output.write

    def slow_write(output: Output, data: bytes) -> int:
        disk_moves.wait()
        return write(output, data)

    monkeypatch.setattr(Output, "write", slow_write)
    monkeypatch.setattr(writer, "QUEUE_BYTES", 100_000)
    with Recorder(session.session, tmp_path) as recorder:
        for k in range(300):
            session.publish_ticks([k])
            recorder.step()
        assert recorder.lost["tick"] > 100
        disk_moves.set()
        until("a write", lambda: recorder.output.tell() > 0)
        until("the rest", lambda: recorder._writer._put == recorder._writer._taken)
        session.publish_ticks([300])
    recording = Recording(recorder.output.path)
    assert recording.lost["tick"] == gaps(recording) > 100
    assert recording.ticks["tick"][-1] == 300
    assert len(recording.ticks) + recording.lost["tick"] == 301


def test_what_is_refused_at_the_end_is_counted_although_the_queue_is_full(
    session: RecordedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Recorder(session.session, tmp_path) as recorder:
        monkeypatch.setattr(writer, "QUEUE_BYTES", 0)
        session.publish_ticks(range(7))
    recording = Recording(recorder.output.path)
    assert len(recording.ticks) == 0
    assert recording.lost["tick"] == 7


# Its process.


def test_a_session_is_recorded_from_another_shell(session: RecordedSession, tmp_path: Path) -> None:
    words = ("--session", session.session.name, "--to", str(tmp_path / "new"))
    process = start_module("rt.record", *words)
    path = until("its file", lambda: next((tmp_path / "new").glob("*.mcap"), None))
    until("its beginning", lambda: path.stat().st_size)
    session.publish_ticks(range(30))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert f"recording session {session.session.name}" in said
    assert f"{path}: " in said
    assert "lost: none" in said
    recording = Recording(path)
    assert recording.problem == ""
    assert recording.ticks["tick"].tolist() == list(range(30))


def test_without_a_session_there_is_nothing_to_record(tmp_path: Path) -> None:
    ended = run_module("rt.record", "--session", unique_session("none"), "--to", str(tmp_path))
    assert ended.returncode == 3
    assert "start one with python -m rt.launch" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_child_records_into_the_sessions_folder_until_it_is_told_to_end(tmp_path: Path) -> None:
    with RecordedSession(record=str(tmp_path)) as session:
        words = (session.session.name, str(os.getpid()), "record")
        process = subprocess.Popen([sys.executable, "-m", "rt.record.process", *words], cwd=ROOT)
        with session.session.reader("status.record", STATUS) as ring:
            status = ring.buffer()
            until(
                "a status", lambda: ring.read_latest(status) is not None and text(status["detail"])
            )
            assert text(status["state"]) == "running"
            path = Path(text(status["detail"]).partition(": ")[0])
            session.publish_ticks(range(30))
            process.send_signal(signal.SIGINT)  # Ctrl-C is for the supervisor
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
            ring.read_latest(status)
            assert text(status["state"]) == "ended"
    assert path.parent == tmp_path
    assert Recording(path).ticks["tick"].tolist() == list(range(30))


def test_recording_leaves_nothing_in_shared_memory(
    session: RecordedSession, tmp_path: Path
) -> None:
    before = sorted(SHM.glob(f"*{session.session.name}*"))
    with Recorder(session.session, tmp_path):
        assert sorted(SHM.glob(f"*{session.session.name}*")) == before


def test_whoever_only_checks_the_folder_needs_no_packages() -> None:
    code = "import sys, json, rt.record.output; print(json.dumps([*sys.modules]))"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert not {"mcap", "cv2", "zstandard"} & set(json.loads(asked.stdout))


def test_the_origin_tells_everything_as_text(session: RecordedSession) -> None:
    assert all(
        isinstance(value, str)
        for values in origin(session.config, 5).values()
        for value in values.values()
    )
