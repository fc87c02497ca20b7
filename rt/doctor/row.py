"""What a check looks at, and the rows it yields.

A check is a small function that yields one row for each thing it looked at, and none where it does
not apply. One that fails itself is a row too; what might hang is asked in a child with a deadline.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rt.config import Config, Realtime
from rt.errors import RtError


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    found: str
    ok: bool
    required: bool = False  # without it rt.launch refuses, or waits for ever
    remedy: str = ""  # the command that mends it


class Subject(NamedTuple):
    """What is looked at: a machine, and the run that is meant for it."""

    config: Config | None  # None: no robot was named
    env: Mapping[str, str]
    require_rt: bool = False  # as rt.launch's flag: real-time rights are required
    root: Path = Path("/")  # where /proc, /sys, /dev and /opt begin

    @property
    def realtime(self) -> Realtime:
        """What control will ask of the kernel."""
        return self.config.robot.realtime if self.config else Realtime()

    @property
    def io(self) -> str:
        """How the robot will be reached; "" when none was named."""
        return self.config.run.io if self.config else ""


Check = Callable[[Subject], Iterator[Row]]


def rows_of(check: Check, subject: Subject) -> list[Row]:
    """All that the check yields; if it fails, a row that says so in its place."""
    name = check.__name__.replace("_", " ")
    try:
        return list(check(subject))
    except RtError as error:  # what it met is a mistake of the user's, told in a sentence
        return [Row(name=name, found=str(error), ok=False, required=True)]
    except Exception as error:  # a machine can be odd in more ways than a check foresees
        found = f"cannot be checked: {type(error).__name__}: {error}"
        return [Row(name=name, found=found, ok=False)]


class AskError(Exception):
    """The child failed, or did not answer in time."""


def ask_python(code: str, *arguments: str, timeout_s: float) -> Any:
    """What the code prints as JSON, run by this Python in a child. Raises AskError."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.closing(child.stdout), contextlib.closing(child.stderr):  # type: ignore[type-var]
        try:
            output, errors = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            # A driver that hangs can keep even a killed process; we do not wait for it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1.0)
            raise AskError(f"no answer within {timeout_s:g} s") from None
    if child.returncode:
        raise AskError((errors.strip().splitlines() or [f"exit code {child.returncode}"])[-1])
    return json.loads(output)
