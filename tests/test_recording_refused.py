"""A file that is no recording, or not a whole one: one sentence, and never a wrong number."""

from __future__ import annotations

import errno
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from launched import ROOT
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.writer import Writer as Mcap
from recorded import RecordedSession, record_all
from rosbags.highlevel import AnyReader
from zstandard import ZstdCompressor

from rt.cdr import LITTLE_ENDIAN
from rt.cli import end_with_sentence
from rt.config import encode_config
from rt.errors import ConfigError
from rt.record import messages, origin, recorder, sources
from rt.record.mending import mend
from rt.record.messages import RecordType
from rt.record.output import Output
from rt.record.reading import MAGIC, MOST_BYTES, Recording
from rt.record.recorder import Recorder
from rt.record.writer import Channel, Message, Writer
from rt.replay.__main__ import main
from rt.testing import config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recording of many MCAP chunks."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, RecordedSession(camera_names=("head",)) as session:
        patch.setattr("rt.record.writer.CHUNK_BYTES", 4000)
        return record_all(session, folder, lambda: publish(session))


def publish(session: RecordedSession) -> None:
    for k in range(20):
        session.publish("tick", tick=k, t_done=k, state=np.random.default_rng(k).normal(size=2))
        if k % 4 == 0:
            session.publish("chunk", first_tick=k)
            session.publish("frame.head", t_capture=k)


def refusal(path: Path) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(ConfigError) as caught:
        Recording(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def other_mcap(path: Path, metadata: dict[str, dict[str, str]]) -> Path:
    """An MCAP file of somebody else's, with one message."""
    with path.open("wb") as file:
        mcap = Mcap(file)
        mcap.start(profile="", library="other")
        for name, values in metadata.items():
            mcap.add_metadata(name, values)
        mcap.add_message(mcap.register_channel("/rt/tick", "json", 0), 0, b"{}", 0)
        mcap.finish()
    return path


# Another's.


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "got an empty one"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), r"got one that begins with b'\x89PNG"),
        (b"#ROSBAG V2.0\n", "got one that begins with b'#ROSBAG '"),
        (b"hello\n", r"got one that begins with b'hello\\n'"),
        (MAGIC[:5], "got one that begins with"),
        (MAGIC, "ends before it says what it is"),
        (MAGIC + bytes(9), "ends before it says what it is"),
        (MAGIC + b"\xff" * 100, "ends before it says what it is"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "file.mcap"
    path.write_bytes(content)
    assert expected.replace("\\\\", "\\") in refusal(path).replace("\\\\", "\\")


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.mcap")
    assert "Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("metadata", [{}, {"other": {"layout": "2"}}])
def test_another_mcap_file_is_refused(tmp_path: Path, metadata: dict[str, dict[str, str]]) -> None:
    assert "got another MCAP file" in refusal(other_mcap(tmp_path / "file", metadata))


# Another version's.


def test_another_layout_is_refused_with_the_version_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RecordedSession() as session:
        for module in (origin, recorder):
            monkeypatch.setattr(module, "LAYOUT", "1", raising=False)
        path = record_all(session, tmp_path, lambda: publish_ticks(session))
    told = refusal(path)
    assert "its layout is 1, expected 2: read it with the one that wrote it (" in told


def publish_ticks(session: RecordedSession) -> None:
    session.publish_ticks(range(3))


def test_a_configuration_with_other_keys_is_refused(tmp_path: Path) -> None:
    encoded = msgspec.to_builtins(config())
    encoded["params"]["no_such_key"] = 1
    metadata = origin.origin(config(), 0)
    metadata["config"]["json"] = msgspec.json.encode(encoded).decode()
    told = refusal(other_mcap(tmp_path / "file", metadata))
    assert "its configuration has other keys" in told


@pytest.mark.parametrize(
    "offset", ["", "soon", "-5", "\N{ARABIC-INDIC DIGIT FIVE}", pytest.param("9" * 5000, id="long")]
)
def test_times_of_an_unknown_clock_are_refused(tmp_path: Path, offset: str) -> None:
    metadata = origin.origin(config(), 0)
    metadata["rt"]["offset_ns"] = offset
    assert "its clock is not told" in refusal(other_mcap(tmp_path / "file", metadata))


def test_records_with_other_fields_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wider(_: object) -> RecordType:
        fields = messages.chunk_dtype(8, 2).descr
        return RecordType("rt_msgs/msg/Chunk", np.dtype([*fields, ("new", "i8")]))

    class Chunks(sources.Chunks):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            kind = wider(None)
            self.channels = {messages.CHUNK: sources.Channel(kind.type, kind.shapes)}

    monkeypatch.setattr(recorder, "Chunks", Chunks)
    with RecordedSession() as session, Recorder(session.session, tmp_path) as written:
        session.publish_ticks([0])
    assert "its /rt/chunk has other fields" in refusal(written.output.path)


TICK, CHUNK, EVENT, RECORDER = messages.TICK, messages.CHUNK, messages.EVENT, messages.RECORDER
IMAGE = messages.IMAGES + "head"
SHORT = LITTLE_ENDIAN + b"abc"


def with_message(path: Path, topic: str, data: bytes) -> Path:
    """A recording whose checksums are right, with this message."""
    of = config(camera_names=("head",))
    types = {
        TICK: messages.tick_type(of).type,
        CHUNK: messages.chunk_type(of).type,
        EVENT: messages.LOG,
        IMAGE: messages.COMPRESSED_IMAGE,
        RECORDER: None,
    }
    channels = {topic: Channel(types[topic])}
    written = Writer(Output(path), channels, origin.origin(of, 0))
    written.put([Message(topic, 0, 0, data)])
    written.close()
    return path


@pytest.mark.parametrize(
    ("topic", "data", "expected"),
    [
        (TICK, SHORT, "its messages are others"),
        (CHUNK, SHORT, "its messages are others"),
        (EVENT, SHORT, "its messages are others"),
        (RECORDER, b"none", "its messages are others"),
        (RECORDER, b"{}", "its messages are others"),
        (RECORDER, b"[]", "its messages are others"),
        (RECORDER, b'{"lost": 5}', "its messages are others"),
        (IMAGE, SHORT, "its images are others"),
    ],
)
def test_messages_of_another_make_are_refused_though_their_checksums_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], topic: str, data: bytes, expected: str
) -> None:
    path = with_message(tmp_path / "file", topic, data)
    assert end_with_sentence(lambda: main([str(path)])) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert f"{path}: this version of rt cannot read it: {expected}" in told.err


def test_a_camera_that_it_does_not_have_is_refused(whole: Path) -> None:
    with pytest.raises(ConfigError, match=r"one of its cameras \(head\), got 'wrist'"):
        next(Recording(whole).frames("wrist"))


# Cut, or damaged.


def test_wherever_it_is_cut_what_comes_before_is_read(whole: Path, tmp_path: Path) -> None:
    expected, data = Recording(whole), whole.read_bytes()
    cut, read = tmp_path / "cut.mcap", set()
    encoded = encode_config(expected.config)
    begins = data.index(encoded) + len(encoded)  # behind the metadata
    for length in range(8, begins, 97):
        cut.write_bytes(data[:length])
        assert re.search("ends before it says what it is|or is cut", refusal(cut))
    for length in {*range(begins, len(data), 37), *range(len(data) - 60, len(data))}:
        cut.write_bytes(data[:length])
        recording = Recording(cut)
        assert "ends in the middle" in recording.problem
        count = len(recording.ticks)
        assert recording.ticks.tobytes() == expected.ticks[:count].tobytes()
        assert set(recording.chunks) <= set(expected.chunks)
        assert len(list(recording.frames("head"))) <= 5
        read.add(count)
    assert {0, 20} < read, "some of it was read as well"


def starts(data: bytes | bytearray) -> Iterator[int]:
    """Where each record of the data section begins, with a byte that tells its kind."""
    (summary,) = struct.unpack("<Q", data[-28:-20])  # what comes from there on is not looked at
    at = len(MAGIC)
    while at < summary:
        yield at
        at += 9 + struct.unpack("<Q", data[at + 1 : at + 9])[0]


def flips(data: bytes) -> Iterator[bytes]:
    """`data` with one bit changed: all of those that tell a record's kind, and some of the rest."""
    draw, (*begins, end) = random.Random(1), starts(data)
    places = [(at, bit) for at in begins for bit in range(8)]
    places += [(draw.randrange(len(MAGIC), end), draw.randrange(8)) for _ in range(200)]
    for at, bit in places:
        yield data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def test_a_bit_that_was_changed_is_noticed_and_changes_no_number(
    whole: Path, tmp_path: Path
) -> None:
    expected, damaged, mended = Recording(whole), tmp_path / "damaged", tmp_path / "mended"
    for n, data in enumerate(flips(whole.read_bytes())):
        damaged.write_bytes(data)
        try:
            recording = Recording(damaged)
        except ConfigError:
            continue
        assert recording.problem
        ticks = recording.ticks["tick"].tolist()
        same = expected.ticks[np.isin(expected.ticks["tick"], ticks)]
        assert recording.ticks.tobytes() == same.tobytes()
        if n % 4 == 0:
            mend(damaged, mended)
            for camera in recording.config.params.camera_names:  # which may have another name now
                assert len(list(recording.frames(camera))) <= 5
            mended.unlink()


def test_a_chunk_without_a_checksum_is_not_believed(whole: Path, tmp_path: Path) -> None:
    data, damaged = bytearray(whole.read_bytes()), tmp_path / "damaged"
    chunk = next(at for at in starts(data) if data[at] == Opcode.CHUNK)
    data[chunk + 33 : chunk + 37] = bytes(4)  # behind its length, two times and a size
    damaged.write_bytes(data)
    recording = Recording(damaged)
    assert "is damaged" in recording.problem
    assert len(recording.ticks) == 0


PEAK = """
import sys
from pathlib import Path
from rt.record.reading import Recording
def peak_kb():  # of this program; ru_maxrss begins with what its parent had
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = peak_kb()
problem = Recording(Path(sys.argv[1])).problem
print(peak_kb() - before, problem)
"""


@pytest.mark.parametrize("within", [True, False])
def test_a_small_chunk_that_asks_for_much_memory_is_refused_in_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    bomb = ZstdCompressor(write_content_size=within).compress(bytes(MOST_BYTES + 1))
    assert len(bomb) < 100_000
    monkeypatch.setattr("zstandard.compress", lambda data: bomb)
    with RecordedSession() as session:
        path = record_all(session, tmp_path, lambda: publish_ticks(session))
    if not within:  # its size is told beside it
        data = bytearray(path.read_bytes())
        chunk = next(at for at in starts(data) if data[at] == Opcode.CHUNK)
        data[chunk + 25 : chunk + 33] = struct.pack("<Q", MOST_BYTES + 1)
        path.write_bytes(data)
    asked = [sys.executable, "-c", PEAK, str(path)]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    taken_kb, _, problem = ended.stdout.partition(" ")
    assert "is damaged" in problem
    assert int(taken_kb) < MOST_BYTES / 1024 / 4


def test_chunks_that_do_not_tell_their_size_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zstandard.compress", ZstdCompressor(write_content_size=False).compress)
    with RecordedSession() as session:
        path = record_all(session, tmp_path, lambda: publish_ticks(session))
    recording = Recording(path)
    assert recording.problem == ""
    assert recording.ticks["tick"].tolist() == [0, 1, 2]


# Mended.


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_a_cut_recording_is_mended_into_a_whole_one(
    whole: Path, tmp_path: Path, share: float
) -> None:
    cut, mended = tmp_path / "cut.mcap", tmp_path / "mended.mcap"
    data = whole.read_bytes()
    cut.write_bytes(data[: int(share * len(data))])
    count = mend(cut, mended)
    before, after = Recording(cut), Recording(mended)
    assert (before.problem == "") is (share == 1.0)
    assert after.problem == ""
    assert (after.meta, after.config) == (before.meta, before.config)
    assert after.ticks.tobytes() == before.ticks.tobytes()
    assert len(after.ticks) > 0
    assert list(after.chunks) == list(before.chunks)
    assert list(after.frames("head")) == list(before.frames("head"))
    with mended.open("rb") as file:
        assert make_reader(file).get_summary().statistics.message_count == count
    with AnyReader([mended]) as reader:
        assert reader.message_count == count


def test_what_cannot_be_mended_is_refused(whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mcap"
    for content in (b"", b"hello", MAGIC, MAGIC + b"\1"):
        cut.write_bytes(content)
        with pytest.raises(ConfigError, match="expected a recording"):
            mend(cut, tmp_path / "mended")
    assert not (tmp_path / "mended").exists()


def test_mending_does_not_replay_and_says_so(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--mend: expected no --mode with it"):
        main([str(whole), "--mend", str(tmp_path / "out.mcap"), "--mode", "naive"])
    assert not (tmp_path / "out.mcap").exists()


def test_no_file_is_overwritten_with_a_mended_one(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a new file, got: File exists"):
        mend(whole, whole)
    assert Recording(whole).problem == ""
    with pytest.raises(ConfigError, match="expected a new file, got: No such file"):
        mend(whole, tmp_path / "none" / "mended")


def test_of_a_full_disk_nothing_half_is_left(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        mend(whole, tmp_path / "mended")
    assert list(tmp_path.iterdir()) == []


def test_of_what_is_interrupted_nothing_half_is_left(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mend(whole, tmp_path / "mended")
    assert list(tmp_path.iterdir()) == []


# A sentence.


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a\nb\x1b[2J")
    assert len(refusal(path).splitlines()) == 1
    assert "\x1b" not in refusal(path)


def test_a_whole_recording_has_no_problem(whole: Path) -> None:
    recording = Recording(whole)
    assert recording.problem == ""
    assert len(recording.ticks) == 20
    assert list(recording.chunks) == list(range(5))
    assert len(list(recording.frames("head"))) == 5
