"""What `rt.replay --to` converts: the rows that were executed; and what it refuses, in a sentence.

What LeRobot makes of it: tests_policies/test_convert_lerobot.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recorded import RecordedSession, record_all
from two_episodes import COUNTED, EXECUTED, LEFT_OUT, files_up_to, record_two_episodes

from rt.config import ImageSize
from rt.delays import delays, swaps
from rt.errors import ConfigError, MissingPackageError
from rt.record.reading import Recording
from rt.records import Hold, tick_dtype
from rt.replay.__main__ import main
from rt.replay.beside import written_beside
from rt.replay.differences import told
from rt.replay.rows import episodes, left_out

EXTRAS = ("lerobot", "lerobot.datasets.lerobot_dataset", "rerun")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record_two_episodes(tmp_path_factory.mktemp("recording"))


@pytest.fixture
def _no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXTRAS:
        monkeypatch.setitem(sys.modules, name, None)


def ticks(numbers: list[int], **fields: Any) -> Any:
    """Executed ticks of one episode."""
    made = np.zeros(len(numbers), tick_dtype(2, 2))
    made["tick"] = numbers
    for name, value in fields.items():
        made[name] = value
    return made


def numbers(given: Any, ticks_per_row: int = 1) -> dict[int, list[int]]:
    """By episode, the ticks that stand for its rows."""
    return {number: rows["tick"].tolist() for number, rows in episodes(given, ticks_per_row)}


# Rows.


def test_the_rows_are_the_ticks_that_executed_one(recording: Recording) -> None:
    assert numbers(recording.ticks) == EXECUTED
    assert told(left_out(recording.ticks)) == LEFT_OUT


def test_of_a_dry_run_nothing_was_executed() -> None:
    dry = ticks([1, 2, 3], dry_run=1, phase=1)
    assert numbers(dry) == {}
    assert left_out(dry) == {"dry run": 3}


@pytest.mark.parametrize(
    ("missing", "rows"),
    [
        ((), [10, 13, 16, 19, 22]),
        ((11, 12), [10, 13, 16, 19, 22]),
        ((13,), [10, 14, 16, 19, 22]),
        ((13, 14), [10, 15, 16, 19, 22]),
        ((14, 15), [10, 13, 16, 19, 22]),
        ((19, 20, 21), [10, 13, 16, 22]),
        ((15, 16, 17), [10, 13, 18, 21]),
        ((10,), [11, 14, 17, 20, 23]),
    ],
)
def test_rows_are_evenly_spaced_but_for_skipped_ticks(missing: Any, rows: list[int]) -> None:
    given = ticks([k for k in range(10, 24) if k not in missing])
    assert numbers(given, ticks_per_row=3) == {0: rows}


def test_each_episode_begins_with_its_first_row() -> None:
    given = ticks([*range(10, 17), *range(30, 36)], episode=[1] * 7 + [2] * 6)
    assert numbers(given, ticks_per_row=3) == {1: [10, 13, 16], 2: [30, 33]}


# Refused.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to", "hdf5", "x"], "--to hdf5: unknown target: expected one of lerobot, rerun"),
        (["--to", "lerbot", "x"], "did you mean 'lerobot'"),
        (["--to", "lerobot"], "--to lerobot: expected DIR after it, got nothing"),
        (["--to", "lerobot", "a", "b"], "expected DIR after it, got a b"),
        (["--to", "rerun", "a", "b"], r"expected \[FILE.rrd\] after it, got a b"),
        (["--to", "rerun", "--policy", "x"], "--to rerun .*: expected no --policy"),
        (["--to", "lerobot", "x", "--delay-ms", "0"], "expected no --delay_ms"),
        (["--to", "rerun", "--images"], "expected no --images"),
        (["--images"], "--images: expected --to lerobot DIR with it"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_file_is_read(
    arguments: list[str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        main(["no such file", *arguments])


@pytest.mark.parametrize(("target", "name"), [("lerobot", "x"), ("rerun", "x.rrd")])
def test_nothing_is_written_over(
    recording: Recording, tmp_path: Path, target: str, name: str
) -> None:
    place = tmp_path / name
    place.write_text("mine")
    with pytest.raises(ConfigError, match="expected a new name, got one that exists"):
        main([str(recording.path), "--to", target, str(place)])
    assert place.read_text() == "mine"
    place.unlink()
    place.symlink_to("nowhere")
    with pytest.raises(ConfigError, match="got one that exists"):
        main([str(recording.path), "--to", target, str(place)])
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(("target", "name"), [("lerobot", "x"), ("rerun", "x.rrd")])
def test_a_place_that_cannot_be_written_to_is_refused(
    recording: Recording, tmp_path: Path, target: str, name: str
) -> None:
    place = tmp_path / "none" / name
    with pytest.raises(ConfigError, match="got: No such file or directory"):
        main([str(recording.path), "--to", target, str(place)])


@pytest.mark.usefixtures("_no_extras")
@pytest.mark.parametrize(
    ("target", "extras"),
    [
        (["lerobot", "x"], "lerobot,record"),
        (["rerun", "x.rrd"], "rerun"),
        (["rerun"], "rerun"),
    ],
)
def test_a_missing_extra_is_told_with_its_pip_command(
    recording: Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: list[str],
    extras: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingPackageError, match=rf"pip install -e '\.\[{extras}\]'"):
        main([str(recording.path), "--to", *target])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_no_extras")
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"HZ": 12.5}, "whole number of rows a second, .*, got HZ 12.5"),
        ({"mono_image_resize": ImageSize(width=128, height=32)}, "64 x 64 .* got 128 x 32: .*--im"),
    ],
)
def test_what_lerobot_cannot_hold_is_refused(
    tmp_path: Path, overrides: dict[str, Any], expected: str
) -> None:
    with RecordedSession(camera_names=("head",), **overrides) as session:
        path = record_all(session, tmp_path, lambda: session.publish_ticks([0]))
    with pytest.raises(ConfigError, match=expected):
        main([str(path), "--to", "lerobot", str(tmp_path / "x")])


def test_a_name_that_rerun_would_not_open_is_refused(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.rrd"):
        main([str(recording.path), "--to", "rerun", str(tmp_path / "x.mcap")])


# Rerun.


@pytest.fixture
def rerun(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package; what its viewer keeps at home, it keeps in a folder of the test."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    return pytest.importorskip("rerun")


def read(path: Path) -> dict[str, Any]:
    """By entity and component, what is not static: (n,) arrow lists; and by entity the times."""
    from rerun.chunk import RrdReader

    found = defaultdict(list)
    for chunk in RrdReader(path).stream():
        if not chunk.is_static:
            batch = chunk.to_record_batch()
            for name in batch.schema.names:
                found[f"{chunk.entity_path} {name}"].append(batch.column(name))
    return {
        name: np.concatenate([c.to_numpy(zero_copy_only=False) for c in columns])
        for name, columns in found.items()
    }


def test_rerun_gets_the_recording_and_what_we_count(
    rerun: Any, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.rrd"
    assert main([str(recording.path), "--to", "rerun", str(path)]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]
    found, ticks = read(path), recording.ticks

    def numbers(entity: str) -> Any:
        return np.stack(found[f"{entity} Scalars:scalars"]).squeeze()

    np.testing.assert_array_equal(numbers("/observation/state/position"), ticks["state"])
    np.testing.assert_array_equal(numbers("/action/state/position"), ticks["command"])
    for camera in ("head", "hand"):
        blobs = [b[0] for b in found[f"/observation/images/{camera} EncodedImage:blob"]]
        assert [bytes(b) for b in blobs] == [jpeg for _, jpeg in recording.frames(camera)]
    late, took = ticks["t_wake"] - ticks["t_due"], ticks["t_done"] - ticks["t_wake"]
    np.testing.assert_array_equal(numbers("/rt/wake_error_ms"), late / 1e6)
    np.testing.assert_array_equal(numbers("/rt/work_ms"), took / 1e6)
    counted = delays(recording.config, ticks, recording.chunks)
    assert len(counted) == len(recording.chunks) == 7
    assert set(numbers("/rt/delay/counted")) == {COUNTED}
    assert numbers("/rt/delay/planned").tolist() == [d.planned for d in counted]
    words = [w[0] for w in found["/rt/swap TextLog:text"]]
    assert len(words) == len(swaps(ticks))
    assert words[0] == "tick 8: chunk 0 from its row 2 on"
    events = [w[0] for w in found["/rt/event TextLog:text"]]
    assert len(events) == len(recording.events)
    assert any("hold expired" in words for words in events)
    for entity in ("/observation/state/position", "/rt/wake_error_ms"):
        for timeline in ("message_log_time", "message_publish_time"):
            times = found[f"{entity} {timeline}"].astype(np.int64)
            np.testing.assert_array_equal(times, ticks["t_done"] + recording.offset_ns)


def test_rerun_gets_what_is_left_of_a_cut_recording(
    rerun: Any, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, path = tmp_path / "cut.mcap", tmp_path / "x.rrd"
    data = recording.path.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])
    assert main([str(cut), "--to", "rerun", str(path)]) == 0
    assert capsys.readouterr().err.startswith("warning: ")
    left = Recording(cut).ticks["state"]
    assert 0 < len(left) < len(recording.ticks)
    assert len(read(path)["/observation/state/position Scalars:scalars"]) == len(left)


@pytest.mark.parametrize("count", [0, 3])
def test_rerun_gets_a_recording_without_chunks(rerun: Any, tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.rrd"
    with RecordedSession() as session:
        recorded = record_all(session, tmp_path, lambda: session.publish_ticks(range(count)))
    assert main([str(recorded), "--to", "rerun", str(path)]) == 0
    assert len(read(path).get("/rt/work_ms Scalars:scalars", ())) == count


def test_the_viewer_listens_to_this_machine_only(
    rerun: Any, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def call(command: list[str]) -> int:
        assert len(read(Path(command[-1]))["/rt/work_ms Scalars:scalars"]) == len(recording.ticks)
        shown.append(command)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    assert main([str(recording.path), "--to", "rerun"]) == 0
    ((*command, file),) = shown
    assert " ".join(command[1:]) == "-m rerun --bind 127.0.0.1 --port auto"
    assert not Path(file).exists()


def test_a_viewer_that_cannot_open_is_told(rerun: Any, recording: Recording) -> None:
    with pytest.raises(ConfigError, match="machine without a display write a file"):
        main([str(recording.path), "--to", "rerun"])


def test_of_a_disk_that_is_full_nothing_half_is_left(
    rerun: Any, recording: Recording, tmp_path: Path
) -> None:
    with files_up_to(20_000), pytest.raises(ConfigError, match="is the disk full"):
        main([str(recording.path), "--to", "rerun", str(tmp_path / "x.rrd")])
    assert list(tmp_path.iterdir()) == []


def executed_ticks(count: int) -> NDArray[Any]:
    """Of one episode, a row in each."""
    ticks = np.zeros(count, tick_dtype(2, 2))
    ticks["tick"] = ticks["row"] = np.arange(count)
    return ticks


def test_a_robot_that_may_have_been_moved_begins_another_episode() -> None:
    ticks = executed_ticks(20)
    for first, hold in ((4, Hold.EXPIRED), (12, Hold.NOT_FOLLOWING)):
        ticks["hold"][first : first + 3], ticks["row"][first : first + 3] = hold, -1
    found = [(number, rows["tick"].tolist()) for number, rows in episodes(ticks, 1)]
    assert found == [(0, [*range(4), *range(7, 12)]), (0, [*range(15, 20)])]


def test_ticks_that_are_not_there_are_counted_as_left_out() -> None:
    ticks = np.delete(executed_ticks(20), slice(5, 9))
    assert left_out(ticks) == {"skipped or lost": 4}


def test_what_is_converted_is_its_owners_alone(tmp_path: Path) -> None:
    for path, make in ((tmp_path / "a", Path.mkdir), (tmp_path / "b", Path.touch)):
        with written_beside(path) as beside:
            make(beside)
        assert path.stat().st_mode & 0o077 == 0
