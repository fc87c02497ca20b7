"""Whatever stands in a segment: an error of ours or a sample, never a crash, a hang or a machine
without memory."""

from __future__ import annotations

import os
import random
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import strategies as st
from reliability import tell
from scale import Scale
from shm_names import fresh_name

from rt.shm import Ring
from rt.shm.layout import (
    AT_HASH,
    AT_HEAD,
    AT_SIZE,
    AT_SLOTS,
    AT_TEXT_BYTES,
    TEXT_OFFSET,
    Layout,
)

RECORD = np.dtype([("n", "i8"), ("text", "S40"), ("image", "u1", (3, 5))])
SLOTS = 4
HEADER_WORDS = TEXT_OFFSET // 8
PATIENCE_S = 60
WORDS = [0, 1, 2, 3, SLOTS, 255, 256, 4096, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
TEXTS = [
    b"",
    b"[('n', '|O')]",
    b"[('n', '<i8'), ('o', 'O', (2,))]",
    b"'<f8'",
    b"[('n', '<i8', (1000000, 1000000))]",
    b"[('n', '|V0')]",
    b"[('n', '<i8')]",
    b"[('n', '>i8')]",
    b"[]",
    b"()",
    b"1",
    b"None",
    b"{'names': ['n'], 'formats': ['O'], 'offsets': [0]}",
    b"[[[[" * 60,
    b"(" * 3000,
    b"-" * 3000 + b"1",
    b"__import__('os').abort()",
    b"[('n', '<i8'), ('n', '<i8')]",
    b"\xff\xfe",
    b"[('', '|V8'), ('n', '<M8[ns]')]",
]

Edits = dict[int, int]  # word → value


class User:
    """A process that uses the segment, so that this one survives what it finds."""

    def __init__(self, name: str) -> None:
        program = Path(__file__).with_name("segment_user.py")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(program), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def ask(self, what: str) -> str:
        """Its answer; fails if it crashed or hangs."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, f"it hangs: {what}"
        said = self.process.stdout.readline().strip()
        assert said, f"it died of signal or exit {self.process.wait()}: {self._stderr()}"
        return said

    def _stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Segment:
    """A ring in use, whose bytes can be broken and put right."""

    def __init__(self) -> None:
        self.name = fresh_name()
        self.path = Path("/dev/shm", self.name)
        with Ring.create(self.name, RECORD, slots=SLOTS, session="fuzz") as ring:
            for n in range(7):
                ring.begin()["n"] = n
                ring.commit()
        self.good = self.path.read_bytes()
        self._user: User | None = None

    @property
    def user(self) -> User:
        """One that has attached while all was well; another, once that one has died."""
        if self._user is None or self._user.process.poll() is not None:
            self.write(self.good)
            self._user = User(self.name)
            assert self._user.ask("attached") == "read"
        return self._user

    def write(self, content: bytes) -> None:
        """In place: who is attached sees it."""
        with self.path.open("r+b") as file:
            file.write(content)
            file.truncate(max(len(content), len(self.good)))

    def end(self) -> None:
        if self._user is not None:
            self._user.end()
        self.path.unlink(missing_ok=True)


@contextmanager
def broken_to(segment: Segment, content: bytes, size: int) -> Iterator[User]:
    """The segment with this `content` and `size`, as a new file; nobody shrinks one in use."""
    user, kept = segment.user, segment.path.with_name(f"{segment.name}.kept")
    segment.path.rename(kept)
    try:
        with segment.path.open("xb") as file:
            file.write(content)
            file.truncate(size)
        yield user
    finally:
        kept.rename(segment.path)


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment()
    yield made
    made.end()


def edited(good: bytes, edits: Edits) -> bytes:
    words = np.frombuffer(good, "u8").copy()
    for at, value in edits.items():
        words[at % len(words)] = value
    return words.tobytes()


def values() -> st.SearchStrategy[int]:
    return st.one_of(st.sampled_from(WORDS), st.integers(0, 2**64 - 1))


def test_each_word_of_the_header_may_be_anything(segment: Segment) -> None:
    for at in range(HEADER_WORDS):
        for value in WORDS:
            with broken_to(segment, edited(segment.good, {at: value}), len(segment.good)) as user:
                said(user.ask("fresh"))


def test_a_header_of_anything_is_used_or_refused(
    segment: Segment, scale: Scale, dice: random.Random
) -> None:
    """Words of the header and of the slots, and the size; most often a few, so that the rest is
    right."""
    places = st.one_of(st.integers(0, HEADER_WORDS - 1), st.integers(0, len(segment.good) // 8))
    edits = st.dictionaries(places, values(), max_size=4)
    sizes = st.one_of(
        st.just(len(segment.good)), st.integers(0, 2 * len(segment.good)), st.just(1 << 40)
    )

    def attempt(case: tuple[Edits, int]) -> str:
        content = edited(segment.good, case[0])[: case[1]]
        with broken_to(segment, content, case[1]) as user:
            return said(user.ask("fresh"))

    found = fuzz(scale, dice, st.tuples(edits, sizes), attempt)
    tell("fuzz", "a segment's header and size, then attached", str(found))


def test_a_header_that_is_consistent_and_wrong_is_refused(
    segment: Segment, scale: Scale, dice: random.Random
) -> None:
    """Text, slots, hash and size agree, as only somebody who knows the layout can have them."""
    texts = st.one_of(st.sampled_from(TEXTS), st.binary(max_size=40))
    slots, heads = st.one_of(st.integers(0, 9), values()), st.one_of(st.integers(0, 9), values())
    case = st.tuples(texts, slots, st.integers(0, 8192), heads)

    def attempt(case: tuple[bytes, int, int, int]) -> str:
        text, slots, size, head = case
        layout = Layout(text, slots)
        try:
            size = min(layout.size, 1 << 20)
        except Exception:  # no layout follows from it: any size is as good
            size = max(size, TEXT_OFFSET + len(text))
        header = np.frombuffer(segment.good[:TEXT_OFFSET], "u8").copy()
        header[[AT_HASH, AT_SIZE, AT_SLOTS, AT_TEXT_BYTES]] = layout.hash, size, slots, len(text)
        header[AT_HEAD] = head
        with broken_to(segment, header.tobytes() + text, size) as user:
            return said(user.ask("fresh"))

    found = fuzz(scale, dice, case, attempt)
    tell("fuzz", "a segment whose header agrees with itself, of any layout", str(found))


def test_words_that_change_under_a_reader_do_it_no_harm(
    segment: Segment, scale: Scale, dice: random.Random
) -> None:
    """All of the segment but its size."""
    edits = st.dictionaries(st.integers(0, len(segment.good) // 8), values(), max_size=6)
    at_head = st.builds(lambda edits, head: {**edits, AT_HEAD: head}, edits, values())

    def attempt(case: Edits) -> str:
        user = segment.user
        segment.write(edited(segment.good, case))
        try:
            return said(user.ask("attached"))
        finally:
            segment.write(segment.good)

    found = fuzz(scale, dice, st.one_of(edits, at_head), attempt)
    tell("fuzz", "a segment's words, under an attached reader", str(found))


def test_what_is_no_segment_is_refused(segment: Segment) -> None:
    """A link, which is not followed; a folder; a file with a hole of a terabyte, not filled."""
    user, kept = segment.user, segment.path.with_name(f"{segment.name}.kept")
    used = os.statvfs("/dev/shm").f_bfree
    segment.path.rename(kept)
    try:
        segment.path.symlink_to(kept)
        assert user.ask("fresh") == "refused as ShmError"
        segment.path.unlink()
        segment.path.mkdir()
        for n in range(20):  # a folder of tmpfs measures as much as it has entries
            (segment.path / f"{n}").touch()
        assert user.ask("fresh") == "refused as ShmError"
        shutil.rmtree(segment.path)
        with segment.path.open("xb") as file:
            file.truncate(1 << 40)
        assert user.ask("fresh") == "refused as LayoutError"
        assert used - os.statvfs("/dev/shm").f_bfree < (64 << 20) // os.statvfs("/dev/shm").f_bsize
    finally:
        shutil.rmtree(segment.path) if segment.path.is_dir() else segment.path.unlink()
        kept.rename(segment.path)


def said(answer: str) -> str:
    """A known one."""
    known = ("used", "read", "refused as LayoutError", "refused as WriterAliveError")
    assert answer in known, answer
    return answer


def test_a_user_that_crashes_is_noticed(segment: Segment) -> None:
    """The control: a file that is shrunk under its reader is a SIGBUS, by the kernel's rules."""
    user = segment.user
    os.truncate(segment.path, 0)
    with pytest.raises(AssertionError, match="it died of signal or exit -7"):
        user.ask("attached")
