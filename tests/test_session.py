"""Sessions: one holder a lock, however holders die; names removed by those who may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import ROOT, SHM, segments, unique_session

from rt.errors import NoSessionError, SessionError, SessionLiveError
from rt.records import STATUS
from rt.session import Lock, Session, check_name, clean_dead_sessions, holder
from rt.testing import SimulatedRun, config

HOLD = """
import sys
from rt.session import Lock
lock = Lock(sys.argv[1], "control")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = unique_session("session")
    yield name
    for left in segments(name):
        (SHM / left).unlink(missing_ok=True)


def other_holder(name: str) -> subprocess.Popen[bytes]:
    """Another process that holds the control lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_lock_has_one_holder_and_names_its_pid(name: str) -> None:
    with Lock(name, "control"):
        assert holder(name, "control") == os.getpid()
        with pytest.raises(SessionLiveError, match=str(os.getpid())):
            Lock(name, "control")
    assert holder(name, "control") is None
    assert segments(name) == []


def test_the_kernel_releases_a_killed_holders_lock(name: str) -> None:
    process = other_holder(name)
    assert holder(name, "control") == process.pid
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert holder(name, "control") is None
    with Lock(name, "control"):  # over the file that it left
        assert holder(name, "control") == os.getpid()


def test_a_lock_on_a_file_that_was_unlinked_meanwhile_is_not_believed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder unlinks its file between our open and our flock: we must lock the new file."""
    real_open, opened = os.open, []

    def open_then_lose_it(path: object, *args: object, **kwargs: object) -> int:
        fd = real_open(path, *args, **kwargs)  # type: ignore[call-overload]
        if not opened:
            Path(str(path)).unlink()
        opened.append(fd)
        return int(fd)

    monkeypatch.setattr(os, "open", open_then_lose_it)
    with Lock(name, "control"):
        monkeypatch.undo()
        assert len(opened) == 2
        assert holder(name, "control") == os.getpid()


def test_only_dead_sessions_are_cleaned(name: str) -> None:
    table = {"status.control": (STATUS, 4)}
    Session(name).create(table)
    process = other_holder(name)
    try:
        assert name not in clean_dead_sessions([name])
        assert Session(name).rings() == ["status.control"]
    finally:
        process.kill()
        process.communicate()
    assert clean_dead_sessions([name])[name] == ["status.control"]
    assert segments(name) == []


def test_a_simulated_run_is_no_dead_session() -> None:
    settings = config()
    with SimulatedRun(settings) as run:
        assert clean_dead_sessions([settings.run.session]) == {}
        run.tick()
    assert segments(settings.run.session) == []


def test_a_session_without_a_record_is_no_session(name: str) -> None:
    with pytest.raises(NoSessionError, match=name):
        Session(name).config()


@pytest.mark.parametrize("bad", ["", "a.b", "a/b", "ä", "x" * 65, "a b"])
def test_a_bad_name_is_refused(bad: str) -> None:
    with pytest.raises(SessionError, match="--session"):
        check_name(bad)
