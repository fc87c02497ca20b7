"""`rt.inspect --watch` as a program: in a terminal, over a pipe, until Ctrl-C, and to the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from launched import ROOT, until
from shown_session import Shown

from rt import inspect
from rt.testing import SimulatedRun, config

LEAVES_SCREEN = "\x1b[?1049l"
COLOUR = re.compile(r"\x1b\[[0-9;]*\b(?:3[0-9]|4[0-9]|9[0-7])[0-9;]*m")
# What a shell that runs tests may have said about colours and sizes.
UNSAID = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")


@pytest.fixture
def shown() -> Iterator[Shown]:
    """A session that has run for a while and lives by its lock alone."""
    with SimulatedRun(config(action_chunk_size=16)) as run, Shown(run.config) as shown:
        run.tick(40)
        shown.play(run)
        yield shown


class Watching:
    """A watcher's process and all that it has written."""

    def __init__(self, session: str, *flags: str, terminal: bool, **env: str) -> None:
        read, write = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(read, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in UNSAID}
        command = ["-m", "rt.inspect", "--session", session, "--watch", "--interval=0.05"]
        # A shell that runs tests in the background has them ignore it, and so their children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [sys.executable, *command, *flags],
            cwd=ROOT,
            env=kept | {"TERM": "xterm"} | env,
            stdin=write if terminal else subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
        )
        signal.signal(signal.SIGINT, before)
        os.close(write)
        self._octets = bytearray()
        self._read = read
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def _follow(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the other end of the terminal is closed
            while octets := os.read(self._read, 65536):
                self._octets += octets

    @property
    def text(self) -> str:
        return self._octets.decode(errors="replace")

    def until(self, words: str, times: int = 1) -> None:
        """Until they have been shown so often."""
        until(words, lambda: self.text.count(words) >= times)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it complained of, once it has ended."""
        code = self.process.wait(60)
        self._reader.join()
        assert self.process.stderr is not None
        return code, self.process.stderr.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.end()
        assert self.process.stderr is not None
        self.process.stderr.close()
        os.close(self._read)


@contextlib.contextmanager
def watching(shown: Shown, *flags: str, terminal: bool, **env: str) -> Iterator[Watching]:
    made = Watching(shown.session.name, *flags, terminal=terminal, **env)
    try:
        yield made
    finally:
        made.close()


def sentence(text: str) -> str:
    """The last line."""
    return text.replace("\r", "").rstrip("\n").rpartition("\n")[2]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_session_that_ends_is_told_in_one_sentence(shown: Shown, terminal: bool) -> None:
    with watching(shown, terminal=terminal) as seen:
        seen.until("tick 39", 3)
        shown.tell("control", b"failed", b"RobotError: \x1b[31mgone")
        shown.release_lock()
        assert seen.end() == (0, "")
        _, _, after = seen.text.rpartition(LEAVES_SCREEN if terminal else "\n\n")
        assert sentence(after) == (
            f"session '{shown.session.name}' has ended at tick 39; "
            "control failed: RobotError: ?[31mgone"
        )
        assert (LEAVES_SCREEN in seen.text) == terminal


def test_the_end_is_noticed_however_seldom_it_is_shown(shown: Shown) -> None:
    with watching(shown, "--interval=3000", terminal=False) as seen:
        seen.until("tick 39")
        shown.release_lock()
        assert seen.end() == (0, "")


@pytest.mark.parametrize(
    ("terminal", "number"),
    [(True, signal.SIGINT), (False, signal.SIGINT), (True, signal.SIGTERM)],
)
def test_ctrl_c_ends_it_and_the_session_goes_on(
    shown: Shown, terminal: bool, number: signal.Signals
) -> None:
    with watching(shown, terminal=terminal) as seen:
        seen.until("tick 39", 2)
        seen.process.send_signal(number)
        assert seen.end() == (0, "")
        told = f"no longer watched: session '{shown.session.name}' goes on"
        assert sentence(seen.text.rpartition(LEAVES_SCREEN)[2]) == told
        assert (LEAVES_SCREEN in seen.text) == terminal


def test_over_a_pipe_it_is_one_plain_block_below_the_other(shown: Shown) -> None:
    with watching(shown, terminal=False) as seen:
        seen.until("tick 39", 2)
        shown.again()
        seen.until("tick 40", 2)
        text = seen.text
        assert "\x1b" not in text
        assert text.index("tick 39") < text.index("tick 40")
        assert "\n\nfake   session" in text
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("env", "forbidden"),
    [({"NO_COLOR": "1"}, COLOUR), ({"TERM": "dumb"}, re.compile("\x1b"))],
)
def test_a_terminal_without_colour_gets_none(
    shown: Shown, env: dict[str, Any], forbidden: re.Pattern[str]
) -> None:
    with watching(shown, terminal=True, **env) as seen:
        seen.until("tick 39", 2)
        assert not forbidden.search(seen.text)
    with watching(shown, terminal=True) as seen:  # the control
        seen.until("tick 39", 2)
        assert COLOUR.search(seen.text)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_speaks_ascii_is_spoken_to_in_ascii(shown: Shown, terminal: bool) -> None:
    shown.tell("inference", detail="关节 3: 90°".encode())
    with watching(shown, terminal=terminal, PYTHONIOENCODING="ascii") as seen:
        seen.until("?? 3: 90?", 2)
        shown.release_lock()
        assert seen.end() == (0, "")
        assert seen.text.isascii()


def test_a_reader_that_goes_away_ends_it_without_a_traceback(shown: Shown) -> None:
    command = f"{sys.executable} -m rt.inspect --session {shown.session.name} --watch | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("fake   session ")
    assert done.stderr == ""


def test_json_is_still_one_object_a_look(shown: Shown) -> None:
    with watching(shown, "--json", terminal=False) as seen:
        seen.until('"tick": 39', 2)
        assert seen.text.startswith('{"session": ')
        shown.release_lock()
        assert seen.end() == (0, "")


@pytest.mark.parametrize("flag", ["--interval", "--last"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "1e9", "soon"])
def test_seconds_that_are_none_are_refused(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect.main([f"{flag}={value}"])
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err.splitlines()[-1]
