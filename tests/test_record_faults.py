"""Whatever ends a recording, what was written before can be read, and it is told in a sentence."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from launched import ROOT, alive, run_module, start_module, until
from mcap.reader import make_reader
from recorded import RecordedSession, record_all

from rt import extras
from rt.config import ImageSize
from rt.errors import ConfigError, MissingPackageError, NoSessionError, SessionError
from rt.record import output, writer
from rt.record.messages import RECORDER
from rt.record.output import Output, check_folder
from rt.record.reading import Recording
from rt.record.recorder import Recorder
from rt.record.writer import Channel, Message, Writer
from rt.records import STATUS, text
from rt.session import Lock

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
SIDE = ImageSize(width=128, height=128)


@pytest.fixture
def session() -> Iterator[RecordedSession]:
    with RecordedSession(camera_names=("head",)) as session:
        yield session


def recording_process(session: RecordedSession, folder: Path) -> subprocess.Popen[str]:
    return start_module("rt.record", "--session", session.session.name, "--to", str(folder))


def only_file(folder: Path) -> Path:
    """The recording, once it tells what it is."""
    path: Path = until("its file", lambda: next(folder.glob("*.mcap"), None))
    until("its beginning", lambda: path.stat().st_size > 1000)
    return path


# It is killed.


def test_what_was_written_before_a_kill_is_read(session: RecordedSession, tmp_path: Path) -> None:
    process = recording_process(session, tmp_path)
    path = only_file(tmp_path)
    session.publish_ticks(range(300))
    until("300 ticks", lambda: len(Recording(path).ticks) == 300)
    session.publish_ticks(range(300, 400))
    process.kill()
    process.communicate()
    recording = Recording(path)
    assert len(recording.ticks) >= 300
    assert recording.ticks["tick"].tolist() == list(range(len(recording.ticks)))
    assert recording.config == session.config
    assert "ends in the middle" in recording.problem


# The disk is full.


def noise(session: RecordedSession, tick: int) -> None:
    """What compresses badly, 100 kB or so."""
    size = session.config.params.mono_image_resize
    image = np.random.default_rng(tick).integers(0, 256, (3, size.height, size.width), np.uint8)
    for _ in range(6):
        session.publish("frame.head", t_capture=1, image=image)
    session.publish_ticks([tick])


RECORD = "from rt.record.__main__ import main; from rt.cli import end_with_sentence"
END = "sys.exit(end_with_sentence(main))"


@as_root
@pytest.mark.parametrize(
    ("disk", "keep_free", "words", "whole"),
    [
        ("68m", "", "are left to others", True),
        ("2m", "output.FREE_BYTES = 0;", "No space left on device", False),
    ],
)
def test_a_full_disk_ends_the_recording_with_a_sentence_and_what_is_there_is_read(
    tmp_path: Path, disk: str, keep_free: str, words: str, whole: bool
) -> None:
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    kept.mkdir()
    with RecordedSession(camera_names=("head",), mono_image_resize=SIDE) as session:
        code = f"import sys; from rt.record import output; {keep_free} {RECORD}; {END}"
        arguments = ["-c", code, "--session", session.session.name, "--to", str(small)]
        script = (
            f"mount -t tmpfs -o size={disk} none {small} || exit 77; "
            f"{shlex.join([sys.executable, *arguments])}; "
            f"code=$?; cp {small}/*.mcap {kept}; exit $code"
        )
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ticks = iter(range(10**9))
        until("its end", lambda: noise(session, next(ticks)) or process.poll() is not None)
        _, told = process.communicate()
    if process.returncode == 77:
        pytest.skip("no disk may be mounted here")
    assert process.returncode == 2
    assert len(told.splitlines()) == 1
    assert words in told
    (path,) = kept.glob("*.mcap")
    assert f"{small / path.name} has stopped: " in told
    recording = Recording(path)
    assert len(recording.ticks) > 0
    assert len(list(recording.frames("head"))) > 0
    assert (recording.problem == "") is whole
    if whole:
        with path.open("rb") as file:
            counted = make_reader(file).get_summary().statistics.message_count
        assert counted > 2 * len(recording.ticks)


def nearly_full(room: int) -> Callable[[int, bytes, int], int]:
    """os.pwrite to a disk that has room for so many bytes."""
    pwrite = os.pwrite

    def write(fd: int, data: bytes, at: int) -> int:
        if at >= room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data[: room - at], at)

    return write


def test_what_is_written_is_on_the_disk_within_a_second_and_all_of_it_at_the_end(
    session: RecordedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, synced = os.fdatasync, list[int]()

    def note(fd: int) -> None:
        sync(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", note)
    monkeypatch.setattr(writer, "FLUSH_S", 0.01)  # in the place of that second
    with Recorder(session.session, tmp_path) as recorder:
        begun = until("the first flush", lambda: synced and synced[-1])
        session.publish_ticks(range(30))
        recorder.step()
        until("the next flush", lambda: synced[-1] > begun)
    assert synced[-1] == recorder.output.path.stat().st_size


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Output(tmp_path / "file")
    monkeypatch.setattr(os, "pwrite", nearly_full(10))
    assert file.write(b"12345678") == 8
    with pytest.raises(OSError, match="No space left on device"):
        file.write(b"9abcdef")
    assert file.tell() == 8
    assert file.path.read_bytes() == b"12345678"
    assert file.write(b"9a") == 2
    file.close()
    assert file.path.read_bytes() == b"123456789a"


@pytest.mark.parametrize(("room", "ticks"), [(100, None), (6_000, 0), (20_000, 10), (60_000, 100)])
def test_without_room_for_more_all_that_was_written_is_read(
    session: RecordedSession,
    tmp_path: Path,
    room: int,
    ticks: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(os, "pwrite", nearly_full(room))
    monkeypatch.setattr(writer, "FREE_BYTES", 0)
    recorder = Recorder(session.session, tmp_path)

    def record() -> None:
        with recorder:
            for k in range(2000):
                session.publish("tick", tick=k, state=np.random.default_rng(k).normal(size=2))
                recorder.step()

    with pytest.raises(SessionError, match="has stopped: No space left on device"):
        record()
    if ticks is None:
        with pytest.raises(ConfigError, match="ends before it says what it is"):
            Recording(recorder.output.path)
        return
    recording = Recording(recorder.output.path)
    assert "ends in the middle" in recording.problem
    assert len(recording.ticks) >= ticks
    assert recording.ticks["tick"].tolist() == list(range(len(recording.ticks)))


def test_a_fault_of_our_own_is_not_taken_for_the_disks(tmp_path: Path) -> None:
    file = Writer(Output(tmp_path / "file"), {RECORDER: Channel()}, {})
    file.put([Message("/unknown", 0, 0, b"")])
    with pytest.raises(KeyError):
        file.close()


# The session ends.


def test_a_session_that_ends_ends_its_recording_in_order(tmp_path: Path) -> None:
    with RecordedSession() as session:
        process = recording_process(session, tmp_path)
        path = only_file(tmp_path)
        session.publish_ticks(range(30))
        session.end()
        said, told = process.communicate()
    assert process.returncode == 0, told
    assert told == ""
    assert f"{path}: " in said
    recording = Recording(path)
    assert recording.problem == ""
    assert recording.ticks["tick"].tolist() == list(range(30))


def test_a_session_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    with RecordedSession() as first, Recorder(first.session, tmp_path) as recorder:
        first.end()
        with RecordedSession(first.session.name) as second:
            second.publish_ticks([5])
            until("its end", lambda: recorder.step() and recorder.over)
    assert len(Recording(recorder.output.path).ticks) == 0


def test_while_its_supervisor_lives_a_recording_goes_on(
    session: RecordedSession, tmp_path: Path
) -> None:
    with Recorder(session.session, tmp_path) as recorder:
        until("a second", recorder.step)
        assert not recorder.over


PARENT = """
import os, subprocess, sys
words = [sys.argv[1], str(os.getpid()), "record"]
subprocess.Popen([sys.executable, "-m", "rt.record.process", *words])
sys.stdin.read()
"""


def test_when_the_supervisor_dies_it_goes_on_until_control_has_let_go(tmp_path: Path) -> None:
    with RecordedSession(record=str(tmp_path)) as session:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, session.session.name], cwd=ROOT, stdin=subprocess.PIPE
        )
        with session.session.reader("status.record", STATUS) as ring:
            status = ring.buffer()
            until(
                "a status", lambda: ring.read_latest(status) is not None and text(status["detail"])
            )
        pid, path = int(status["pid"]), only_file(tmp_path)
        with Lock(session.session.name, "control"):
            session.release_lock()
            parent.kill()
            parent.communicate()
            session.publish_ticks(range(30))
            until("30 ticks", lambda: len(Recording(path).ticks) == 30)
            assert alive(pid)
            session.publish_ticks([30])
        until("its end", lambda: not alive(pid))
    recording = Recording(path)
    assert recording.problem == ""
    assert recording.ticks["tick"].tolist() == list(range(31))


def test_a_session_that_is_just_ending_is_not_recorded(
    session: RecordedSession, tmp_path: Path
) -> None:
    (Path("/dev/shm") / f"rt.{session.session.name}.frame.head").unlink()
    with pytest.raises(NoSessionError, match="just starting or ending"):
        Recorder(session.session, tmp_path)
    assert list(tmp_path.iterdir()) == []


# The folder.


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "newer")
    assert list((tmp_path / "new" / "newer").iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none"])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"expected a folder that can be written to, got: \w+"):
        check_folder(tmp_path / place)


@as_root
def test_a_folder_of_somebody_elses_is_refused() -> None:
    os.seteuid(NOBODY)
    try:
        with pytest.raises(ConfigError, match="/usr: expected a folder that can be written to"):
            check_folder(Path("/usr"))
    finally:
        os.seteuid(0)


def test_a_folder_that_became_unwritable_is_told_as_well(
    session: RecordedSession, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="expected a folder that can be written to"):
        record_all(session, tmp_path / "gone", lambda: None)


def test_a_nearly_full_disk_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "FREE_BYTES", 2**62)
    with pytest.raises(ConfigError, match=r"expected at least \d+ MB free there, got \d+ MB"):
        check_folder(tmp_path)


def test_the_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"no_such_module": "a-package", "numpy": "numpy"}
    monkeypatch.setitem(extras.EXTRAS, "record", modules)
    with pytest.raises(MissingPackageError, match=r"needs a-package: .*pip install -e '.\[record"):
        check_folder(tmp_path)


def test_a_mistake_on_the_command_line_ends_with_a_sentence(
    session: RecordedSession, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ended = run_module(
        "rt.record", "--session", session.session.name, "--to", str(tmp_path / "file")
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "name another" in ended.stderr


def test_it_yields_to_every_other_process(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    with RecordedSession(other_cores=(core,)) as session:
        process = recording_process(session, tmp_path)
        only_file(tmp_path)
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(ours + 5, 19)
        assert os.sched_getaffinity(process.pid) == {core}
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0
