"""A segment is made whole or not at all, and nothing is attached that is not what it says."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shm_names import fresh_name

from rt.errors import (
    FenceError,
    LayoutError,
    RingUsageError,
    SegmentExistsError,
    SegmentMissingError,
    ShmError,
    ShmFullError,
)
from rt.shm import Ring
from rt.shm.fence import STREAMING_BYTES, fences
from rt.shm.layout import (
    AT_HASH,
    AT_HEAD,
    AT_MAGIC,
    AT_READY,
    AT_SIZE,
    AT_SLOTS,
    AT_TEXT_BYTES,
    AT_VERSION,
    LINE,
    TEXT_OFFSET,
)

RECORD = np.dtype([("n", "i8"), ("image", "u1", (3, 5))])


@pytest.fixture
def name() -> Iterator[str]:
    name = fresh_name()
    yield name
    Ring.unlink(name)


def path_of(name: str) -> Path:
    return Path("/dev/shm", name)


def set_word(name: str, at: int, value: int) -> None:
    with path_of(name).open("r+b") as file:
        file.seek(8 * at)
        file.write(value.to_bytes(8, "little"))


# Making one.


def test_a_segment_says_what_it_is(name: str) -> None:
    with Ring.create(f"/{name}", RECORD, slots=3, session="igris_b") as ring:
        status = path_of(name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert ring.nbytes == status.st_size
        assert status.st_blocks * 512 >= ring.nbytes, "its memory exists already"
        with Ring.attach(name) as reader:
            assert reader.name == ring.name == f"/{name}"
            assert reader.dtype == RECORD
            assert (reader.slots, reader.session, reader.head) == (3, "igris_b", 0)
            assert (reader.writer_pid, reader.writer_epoch) == (0, 0)


def test_head_and_every_slot_have_cache_lines_of_their_own(name: str) -> None:
    with Ring.create(name, RECORD, slots=3) as ring:
        assert AT_HEAD * 8 % LINE == 0
        addresses = [record.ctypes.data for record in ring._records]
        assert all(address % LINE == 0 for address in addresses)
        assert all(at * 8 % LINE == 0 for at in ring._seq_at)


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
        np.dtype([("pose", [("x", "f4"), ("y", ">i2", (2,))]), ("text", "S5"), ("t", "M8[ns]")]),
    ],
    ids=["padded", "nested"],
)
def test_every_layout_comes_back_as_it_was(name: str, dtype: np.dtype[Any]) -> None:
    with Ring.create(name, dtype), Ring.attach(name, dtype) as reader:
        assert reader.dtype == dtype
        assert reader.dtype.itemsize == dtype.itemsize


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("o", "O")]),
        np.dtype("f8"),
        np.dtype([]),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}),
    ],
    ids=["objects", "plain", "empty", "unordered", "overlapping"],
)
def test_a_dtype_that_cannot_be_shared_is_refused(name: str, dtype: np.dtype[Any]) -> None:
    with pytest.raises(RingUsageError, match=r"expected a .*dtype"):
        Ring.create(name, dtype)
    assert not path_of(name).exists()


@pytest.mark.parametrize("slots", [-1, 0, 1])
def test_fewer_than_two_slots_are_refused(name: str, slots: int) -> None:
    with pytest.raises(RingUsageError, match=f"slots >= 2.*got {slots}"):
        Ring.create(name, RECORD, slots)


@pytest.mark.parametrize("bad", ["", "/", "a/b", "a b", "x" * 201])
def test_a_name_that_cannot_be_is_refused(bad: str) -> None:
    for use in (Ring.attach, Ring.unlink, lambda name: Ring.create(name, RECORD)):
        with pytest.raises(RingUsageError, match="name"):
            use(bad)


def test_a_bad_session_is_refused(name: str) -> None:
    with pytest.raises(RingUsageError, match="session"):
        Ring.create(name, RECORD, session="x" * 65)


def test_a_taken_name_is_refused_and_left_alone(name: str) -> None:
    with Ring.create(name, RECORD) as ring:
        ring.begin()["n"] = 4
        ring.commit()
        with pytest.raises(SegmentExistsError, match="taken"):
            Ring.create(name, RECORD)
        out = ring.buffer()
        assert Ring.attach(name).read_latest(out) == 0
        assert out["n"] == 4


def test_another_users_segment_is_an_error(name: str) -> None:
    Ring.create(name, RECORD).close()
    user = os.geteuid()
    if user != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    try:
        for use in (Ring.attach, Ring.open_writer, Ring.unlink):
            with pytest.raises(ShmError, match="expected one of user 65534, got another user's"):
                use(name)
    finally:
        os.seteuid(user)


def test_unlink_is_silent_about_a_missing_name_and_leaves_mappings(name: str) -> None:
    with Ring.create(name, RECORD) as ring:
        assert Ring.unlink(name)
        assert not Ring.unlink(name)
        ring.begin()["n"] = 4
        assert ring.commit() == 0


# /dev/shm is full.

BIG = np.dtype([("image", "u1", (1 << 30,))])


def test_more_than_there_is_is_an_error_before_the_memory_is_filled(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    with pytest.raises(ShmFullError, match=r"expected \d{16,} bytes .* got \d+ available"):
        Ring.create(name, BIG, slots=1 << 20)
    assert not path_of(name).exists()


def test_a_file_size_limit_is_an_error_and_leaves_nothing(name: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ShmFullError, match=os.strerror(errno.EFBIG)):
            Ring.create(name, np.dtype([("image", "u1", (4096,))]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not path_of(name).exists()


def test_room_that_vanishes_meanwhile_is_an_error_and_leaves_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(ShmFullError, match=r"expected \d+ bytes"):
        Ring.create(name, RECORD)
    assert not path_of(name).exists()


def test_memory_that_cannot_be_mapped_leaves_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "no address space")

    monkeypatch.setattr(mmap, "mmap", no_memory)
    with pytest.raises(OSError, match="no address space"):
        Ring.create(name, RECORD)
    assert not path_of(name).exists()


CREATE_ON_A_FULL_DISK = """
import numpy as np
from rt.errors import ShmFullError
from rt.shm import Ring
dtype = np.dtype([("image", "u1", (1 << 18,))])
Ring.create("fits", dtype, slots=2)
try:
    Ring.create("full", dtype, slots=2)
except ShmFullError as error:
    print(error)
"""


def test_a_real_full_dev_shm_is_an_error(name: str) -> None:
    """On a /dev/shm of 1 MiB, in a mount namespace of its own."""
    root = Path(__file__).parents[1]
    shell = 'mount -t tmpfs -o size=1m none /dev/shm && exec "$0" -c "$1"'
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, sys.executable, CREATE_ON_A_FULL_DISK],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in result.stderr or "mount" in result.stderr:
        pytest.skip(f"no mount namespace here: {result.stderr.strip()}")
    assert "segment /full: expected 524" in result.stdout, result.stderr


# Attaching.


def test_a_missing_segment_is_an_error(name: str) -> None:
    for attach in (Ring.attach, Ring.open_writer):
        with pytest.raises(SegmentMissingError, match="got nothing"):
            attach(name)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (AT_MAGIC, "magic: expected 0x676e69722e7472, got 0x4d;"),
        (AT_VERSION, "layout version: expected 1, got 77;"),
        (AT_SIZE, r"size in bytes: expected 77, got \d+;"),
        (AT_HASH, "layout hash: expected 0x[0-9a-f]+, got 0x4d;"),
        (AT_SLOTS, "layout hash: expected 0x[0-9a-f]+, got 0x[0-9a-f]+;"),
        (AT_TEXT_BYTES, "layout hash: expected 0x[0-9a-f]+, got 0x[0-9a-f]+;"),
    ],
)
def test_each_mismatch_is_an_error_naming_both_values(name: str, at: int, message: str) -> None:
    Ring.create(name, RECORD).close()
    set_word(name, at, 77)
    for attach in (Ring.attach, Ring.open_writer):
        with pytest.raises(LayoutError, match=message):
            attach(name)


def test_a_segment_that_is_not_ready_is_an_error(name: str) -> None:
    Ring.create(name, RECORD).close()
    set_word(name, AT_READY, 0)
    with pytest.raises(LayoutError, match="ready: expected 1, got 0"):
        Ring.attach(name)
    set_word(name, AT_MAGIC, 0)
    set_word(name, AT_VERSION, 0)
    with pytest.raises(LayoutError, match="ready: expected 1, got 0"):
        Ring.attach(name)


def test_another_dtype_text_is_an_error(name: str) -> None:
    Ring.create(name, RECORD).close()
    with path_of(name).open("r+b") as file:
        file.seek(TEXT_OFFSET)
        file.write(b"#")
    with pytest.raises(LayoutError, match="layout hash"):
        Ring.attach(name)


@pytest.mark.parametrize("size", [0, 100, TEXT_OFFSET, 500])
def test_a_truncated_segment_is_an_error_and_attaching_never_resizes(name: str, size: int) -> None:
    Ring.create(name, RECORD).close()
    os.truncate(path_of(name), size)
    for attach in (Ring.attach, Ring.open_writer):
        with pytest.raises(LayoutError, match=f"size in bytes: expected .*got {size};"):
            attach(name)
        assert path_of(name).stat().st_size == size


def test_attaching_leaves_the_size(name: str) -> None:
    with Ring.create(name, RECORD) as ring:
        Ring.attach(name).close()
        Ring.open_writer(name).close()
        assert path_of(name).stat().st_size == ring.nbytes


def test_a_file_of_someone_else_is_an_error(name: str) -> None:
    path_of(name).write_bytes(b"hello" * 1000)
    with pytest.raises(LayoutError, match="magic"):
        Ring.attach(name)


@pytest.mark.timeout(20)  # a pipe is opened once somebody writes to it: never
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_an_error_at_once(name: str, make: Callable[[Path], None]) -> None:
    path = path_of(name)
    make(path)
    try:
        for use in (Ring.attach, Ring.open_writer):
            with pytest.raises(ShmError, match="expected"):
                use(name)
    finally:
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_dtype_that_was_not_expected_is_an_error_naming_both(name: str) -> None:
    Ring.create(name, RECORD).close()
    for attach in (Ring.attach, Ring.open_writer):
        with pytest.raises(LayoutError, match=r"dtype: expected .*other.*, got .*image"):
            attach(name, np.dtype([("other", "i8")]))


def test_nothing_stays_open_after_use_and_after_errors(name: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Ring.create(name, RECORD), Ring.attach(name) as reader:
            with pytest.raises(ShmFullError):
                Ring.create(f"{name}.big", BIG, slots=1 << 20)
            for wrong in (name, "rt-test.missing"):
                with pytest.raises((LayoutError, SegmentMissingError)):
                    Ring.open_writer(wrong, np.dtype([("other", "i8")]))
            reader.read_latest(reader.buffer())
        del reader
        Ring.unlink(name)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Fences.


def test_x86_fences_only_payloads_that_may_be_streamed() -> None:
    assert fences(STREAMING_BYTES - 1, "x86_64") == (None, None)
    large = fences(STREAMING_BYTES, "x86_64")
    assert large.acquire is None
    assert large.release is not None
    large.release()


def test_arm_fences_everything_or_says_what_to_install() -> None:
    try:
        release, acquire = fences(8, "aarch64")
    except FenceError as error:
        assert "libatomic1" in str(error)  # noqa: PT017
        return
    assert release is not None
    assert acquire is not None
    release()
    acquire()


def test_an_unknown_cpu_is_refused_before_anything_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(FenceError, match="expected x86_64 or aarch64, got 'riscv64'"):
        Ring.create(name, RECORD)
    assert not path_of(name).exists()
