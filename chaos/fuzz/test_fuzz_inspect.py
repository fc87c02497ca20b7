"""Whatever a session left, or has not made yet: `rt.inspect` shows it, or says one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from broken_files import odd_values
from fuzzing import fuzz
from hypothesis import strategies as st
from launched import SHM, run_module, segments, unique_session
from reliability import tell
from scale import Scale

from rt import inspect
from rt.cli import end_with_sentence
from rt.config import Config, encode_config
from rt.config.load import load_config
from rt.dashboard import look as dashboard_look
from rt.launcher.options import parse
from rt.records import STATUS
from rt.session import Lock, Session, ring_name, ring_table, session_names
from rt.shm import Ring
from rt.shm.layout import AT_READY

SMALL = ["--set=params.mono_image_resize.width=4", "--set=params.mono_image_resize.height=4"]
SHOWS = (["--json"], [], ["--watch", "--interval=0.01"], ["--frames"], ["--plot"])
DEAD = 2**22 + 1  # beyond the kernel's pids


class Case(NamedTuple):
    """A session to look at."""

    rings: dict[str, str]  # name → how it is
    seed: int  # of the bytes in the records
    detail: str  # in the status of control
    pid: int
    shows: list[str]


BROKEN = ["absent", "empty", "cut", "not ready", "noise", "other", "nothing"]


def table(config: Config) -> dict[str, tuple[np.dtype[Any], int]]:
    status = {f"status.{name}": (STATUS, 4) for name in ("control", "inference", "sim")}
    return ring_table(config) | status


def cases(names: list[str]) -> st.SearchStrategy[Case]:
    hows = st.one_of(st.just("good"), st.sampled_from(["good"] * 3 + BROKEN))
    details = st.one_of(
        st.just(""), st.text(max_size=20), odd_values().map(json.dumps), st.just("[" * 5000)
    )
    pids = st.sampled_from([os.getpid(), 0, -1, 1, DEAD, 2**31, 2**63 - 1, -(2**63)])
    rings = st.fixed_dictionaries(dict.fromkeys(names, hows))
    return st.builds(Case, rings, st.integers(0, 2**32 - 1), details, pids, st.sampled_from(SHOWS))


class Left:
    """A session that lives by its lock alone, as a case has it."""

    def __init__(self) -> None:
        self.name = unique_session("fuzz")
        self.config = load_config(
            parse(["--robot", "igris_b", "--session", self.name, *SMALL])
        ).config
        self.table = table(self.config)
        self.lock = Lock(self.name, "supervisor")

    def make(self, case: Case) -> None:
        self.clean()
        noise = np.random.default_rng(case.seed)
        for name, how in case.rings.items():
            self._make(name, how, case, noise)

    def _make(self, name: str, how: str, case: Case, noise: np.random.Generator) -> None:
        dtype, slots = self.table[name]
        path = SHM / ring_name(self.name, name)[1:]
        if how == "absent":
            return
        if how == "nothing":
            path.touch()
            return
        if how == "other":
            dtype = np.dtype([("n", "i8")])
        with Ring.create(ring_name(self.name, name), dtype, slots, session=self.name) as ring:
            for _ in range(0 if how == "empty" else min(slots, 16) + 3):
                self._fill(ring.begin(), name, how, case, noise)
                ring.commit()
        if how == "cut":
            os.truncate(path, int(noise.integers(0, path.stat().st_size)))
        elif how == "not ready":
            with path.open("r+b") as file:
                file.seek(8 * AT_READY)
                file.write(bytes(8))

    def _fill(
        self, record: Any, name: str, how: str, case: Case, noise: np.random.Generator
    ) -> None:
        if how == "noise":
            record[...] = np.frombuffer(noise.bytes(record.dtype.itemsize), record.dtype)[0]
            return
        record[...] = np.zeros((), record.dtype)
        if how == "other":
            return
        if name == "session":
            record["json"] = encode_config(self.config)
        elif name.startswith("status."):
            record["pid"], record["state"] = case.pid, b"running"
            record["detail"] = case.detail.encode()

    def clean(self) -> None:
        for name in segments(self.name):
            if not name.endswith(".lock"):
                (SHM / name).unlink()

    def end(self) -> None:
        self.clean()
        self.lock.release()


@pytest.fixture
def left() -> Iterator[Left]:
    made = Left()
    yield made
    made.end()


def judged(code: int, said: str, complaint: str) -> str:
    """Shown, or refused in one sentence with its exit code."""
    if code == 0:
        assert said.strip()
        assert not complaint
        return "shown"
    assert code in (2, 3)
    assert complaint.count("\n") == 1, complaint
    assert complaint.strip().isprintable()
    return "refused in a sentence"


def test_whatever_a_session_left_is_shown_or_refused(
    left: Left, tmp_path: Path, scale: Scale, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    for watches in (inspect, dashboard_look):  # so that --watch looks once
        monkeypatch.setattr(watches, "is_live", lambda _: False)

    def attempt(case: Case) -> str:
        left.make(case)
        to = {"--frames": [str(tmp_path)], "--plot": [str(tmp_path / "a.png")]}
        shows = [*case.shows, *to.get("".join(case.shows), [])]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = end_with_sentence(lambda: inspect.main(["--session", left.name, *shows]))
        if case.shows == ["--json"] and code == 0:
            assert isinstance(json.loads(out.getvalue()), dict)
        return judged(code, out.getvalue(), err.getvalue())

    found = fuzz(scale, dice, cases(list(left.table)), attempt)
    assert found.outcomes.get("shown")  # the control: not all of them are refused
    tell("fuzz", "`rt.inspect` on half-made sessions", str(found))


def test_a_real_inspect_ends_with_a_sentence_too(
    left: Left, tmp_path: Path, scale: Scale, dice: random.Random
) -> None:
    for how in dice.sample(BROKEN, 2):
        broken = dice.choice(list(left.table))
        left.make(Case({n: how if n == broken else "good" for n in left.table}, 1, "{", DEAD, []))
        done = run_module("rt.inspect", "--session", left.name, *dice.choice((["--json"], [])))
        judged(done.returncode, done.stdout, done.stderr)


def test_clean_leaves_what_is_nobodys_session(left: Left) -> None:
    """A name in /dev/shm that no session can have does not keep others from being cleaned."""
    odd = SHM / f"rt.{left.name} odd.x"
    odd.touch()
    try:
        Session(left.name).create({"tick": (STATUS, 2)})
        left.lock.release()
        assert f"{left.name} odd" not in session_names()
        done = run_module("rt.inspect", "--clean", "--session", left.name)
        assert (done.returncode, done.stderr) == (0, "")
        assert segments(left.name) == []
        assert odd.exists()
    finally:
        odd.unlink()
