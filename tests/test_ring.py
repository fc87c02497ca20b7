"""What the ring promises, with real processes and real shared memory."""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ring_peer import SAMPLE, heard, peer
from shm_names import fresh_name

from rt.errors import RingUsageError, WriterAliveError
from rt.shm import Ring
from rt.shm.layout import AT_HEAD

CHUNK = np.dtype([("n", "i8"), ("actions", "f4", (5, 3))])


@pytest.fixture
def name() -> Iterator[str]:
    name = fresh_name()
    yield name
    Ring.unlink(name)


@pytest.fixture
def ring(name: str) -> Iterator[Ring]:
    with Ring.create(name, CHUNK, slots=4) as ring:
        yield ring


@pytest.fixture
def reader(ring: Ring) -> Iterator[Ring]:
    with Ring.attach(ring.name) as reader:
        yield reader


def publish(ring: Ring, *values: int) -> None:
    for value in values:
        slot = ring.begin()
        slot["n"] = value
        slot["actions"][...] = value
        ring.commit()


# One writer and its readers, in one process.


def test_read_latest_is_none_before_anything_was_published(ring: Ring, reader: Ring) -> None:
    assert reader.read_latest(reader.buffer()) is None
    ring.begin()
    assert reader.read_latest(reader.buffer()) is None
    assert reader.lapped == 0


def test_commit_counts_samples_and_read_latest_copies_the_newest(ring: Ring, reader: Ring) -> None:
    out = reader.buffer()
    for n in range(10):
        slot = ring.begin()
        slot["n"] = 100 + n
        slot["actions"][...] = n
        assert ring.commit() == n
        assert reader.read_latest(out) == n
        assert out["n"] == 100 + n
        assert (out["actions"] == n).all()
        assert reader.head == n + 1


def test_a_record_can_be_assigned_whole(ring: Ring, reader: Ring) -> None:
    record = ring.buffer()
    record["n"] = 7
    record["actions"] = 0.5
    ring.begin()[()] = record
    ring.commit()
    out = reader.buffer()
    reader.read_latest(out)
    assert out == record


def test_write_publishes_a_private_buffer(ring: Ring, reader: Ring) -> None:
    record, out = ring.buffer(), reader.buffer()
    for n in range(6):
        record["n"] = n
        assert ring.write(record) == n
        assert reader.read_latest(out) == n
        assert out == record


def test_begin_twice_gives_the_same_slot(ring: Ring, reader: Ring) -> None:
    first = ring.begin()
    first["n"] = 1
    assert ring.begin() is first
    assert ring.commit() == 0
    out = reader.buffer()
    assert reader.read_latest(out) == 0
    assert out["n"] == 1


def test_commit_without_begin_is_an_error(ring: Ring) -> None:
    with pytest.raises(RingUsageError, match=r"expected a begin\(\)"):
        ring.commit()
    publish(ring, 1)
    with pytest.raises(RingUsageError, match=r"expected a begin\(\)"):
        ring.commit()


def test_a_window_is_consecutive_and_oldest_first(ring: Ring, reader: Ring) -> None:
    publish(ring, *range(10))
    array = np.zeros(4, CHUNK)
    assert reader.read_window(array, 4) == 9
    assert array["n"].tolist() == [6, 7, 8, 9]
    buffers = [reader.buffer() for _ in range(3)]
    assert reader.read_window(buffers, 3) == 9
    assert [int(out["n"]) for out in buffers] == [7, 8, 9]
    assert reader.read_window(buffers[::-1], 3) == 9
    assert [int(out["n"]) for out in buffers] == [9, 8, 7]


def test_a_window_is_none_if_fewer_samples_exist_or_fit(ring: Ring, reader: Ring) -> None:
    outs = np.zeros(5, CHUNK)
    assert reader.read_window(outs, 1) is None
    publish(ring, 1, 2)
    assert reader.read_window(outs, 3) is None
    assert reader.read_window(outs, 2) == 1
    publish(ring, 3, 4, 5, 6)
    assert reader.read_window(outs, 4) == 5
    assert reader.read_window(outs, 5) is None
    assert reader.lapped == 0


def test_a_window_needs_a_buffer_for_each_sample(ring: Ring, reader: Ring) -> None:
    publish(ring, 1, 2)
    for k in (0, 3):
        with pytest.raises(RingUsageError, match="k"):
            reader.read_window(np.zeros(2, CHUNK), k)
        with pytest.raises(RingUsageError, match="k"):
            reader.read_window([reader.buffer(), reader.buffer()], k)


def test_any_fitting_array_is_a_buffer(ring: Ring, reader: Ring) -> None:
    publish(ring, 3)
    out = np.empty((), CHUNK)
    assert reader.read_latest(out) == 0
    assert out["n"] == 3


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((), "f4"),
        np.zeros((), [("n", "i8")]),
        np.zeros(8, CHUNK)[::2],
        np.frombuffer(bytes(CHUNK.itemsize), CHUNK)[0:1],
        [0.0],
    ],
    ids=["plain", "other fields", "strided", "read-only", "list"],
)
def test_a_foreign_buffer_is_an_error(ring: Ring, reader: Ring, out: Any) -> None:
    publish(ring, 3)
    with pytest.raises(RingUsageError, match="expected a buffer"):
        reader.read_latest(out)


def test_buffers_that_come_and_go_are_not_kept(ring: Ring, reader: Ring) -> None:
    publish(ring, 3)
    for _ in range(1000):
        assert reader.read_latest(np.zeros((), CHUNK)) == 0
    assert len(reader._buffers.views) <= 64


# Readers cannot write, and closing is always safe.


def test_a_reader_cannot_write(ring: Ring, reader: Ring) -> None:
    publish(ring, 1)
    with pytest.raises(RingUsageError, match="open_writer"):
        reader.begin()
    with pytest.raises(RingUsageError, match="open_writer"):
        reader.write(reader.buffer())
    with pytest.raises(TypeError, match="read-only"):
        reader._words[AT_HEAD] = 9
    with pytest.raises(ValueError, match="read-only"):
        reader._records[0]["n"] = 9


def test_a_readers_mapping_is_read_only_in_the_kernel_too(name: str) -> None:
    with Ring.create(name, CHUNK), Ring.attach(name):
        maps = Path("/proc/self/maps").read_text().splitlines()
        rights = sorted(line.split()[1] for line in maps if line.endswith(name))
        assert rights == ["r--s", "rw-s"]


def test_close_leaves_the_callers_views_valid(name: str) -> None:
    ring = Ring.create(name, CHUNK)
    slot = ring.begin()
    slot["n"] = 5
    ring.close()
    gc.collect()
    assert slot["n"] == 5


def test_a_closed_ring_says_so(ring: Ring, reader: Ring) -> None:
    out = reader.buffer()
    publish(ring, 1)
    for closed in (ring, reader):
        closed.close()
        closed.close()
        with pytest.raises(RingUsageError, match="closed"):
            closed.read_latest(out)
        with pytest.raises(RingUsageError, match="closed"):
            closed.begin()
        with pytest.raises(RingUsageError, match="closed"):
            closed.head  # noqa: B018


def test_readers_go_without_the_segment_going(ring: Ring) -> None:
    """Python's own shared_memory would unlink it: its tracker believes that it owns it."""
    publish(ring, 1, 2)
    for _ in range(2):
        with peer("attach_and_leave", ring.name) as process:
            assert heard(process) == "2"
            assert process.wait() == 0


# Laps.


class Lapping:
    """Stands in for a reader's payloads: the writer goes round the ring before each copy."""

    def __init__(self, ring: Ring, reader: Ring, times: int) -> None:
        self.ring, self.payloads, self.times = ring, reader._payloads, times

    def __getitem__(self, slot: int) -> memoryview:
        if self.times > 0:
            self.times -= 1
            publish(self.ring, *range(self.ring.slots))
        return self.payloads[slot]


@pytest.mark.parametrize("laps", [0, 1, 2, 3])
def test_a_lapped_reader_tries_three_times_then_counts(ring: Ring, reader: Ring, laps: int) -> None:
    publish(ring, 1)
    lapping: Any = Lapping(ring, reader, laps)
    reader._payloads = lapping
    rescued = laps < 3
    assert reader.read_latest(reader.buffer()) == (laps * ring.slots if rescued else None)
    assert reader.lapped == (0 if rescued else 1)


def test_a_lapped_window_counts_too(ring: Ring, reader: Ring) -> None:
    publish(ring, 1, 2)
    lapping: Any = Lapping(ring, reader, times=6)
    reader._payloads = lapping
    assert reader.read_window(np.zeros(2, CHUNK), 2) is None
    assert reader.lapped == 1


# Across processes.


def is_whole(out: np.ndarray[Any, Any], index: int) -> bool:
    """Every word of the sample is its index."""
    octets = out.tobytes()
    return octets[8:] == octets[:-8] and int.from_bytes(octets[:8], "little") == index


@contextmanager
def reader_under_a_running_writer(name: str, slots: int) -> Iterator[Ring]:
    """A ring that another process writes to as fast as it can."""
    with (
        Ring.create(name, SAMPLE, slots=slots),
        Ring.attach(name) as reader,
        peer("write_forever", name) as writer,
    ):
        assert heard(writer) == "writing"
        yield reader


def test_a_window_read_under_a_running_writer_is_consecutive(name: str) -> None:
    with reader_under_a_running_writer(name, slots=8) as reader:
        outs, reads = np.zeros(3, SAMPLE), 0
        while reads < 20_000:
            newest = reader.read_window(outs, 3)
            if newest is not None:
                assert all(is_whole(outs[i], newest - 2 + i) for i in range(3))
                reads += 1


# Writers come and go.


def test_a_second_writer_is_refused_by_pid(name: str) -> None:
    with Ring.create(name, SAMPLE) as ring, peer("write_forever", name) as writer:
        assert heard(writer) == "writing"
        assert ring.writer_pid == writer.pid
        for claim in (ring.begin, lambda: Ring.open_writer(name)):
            with pytest.raises(WriterAliveError, match=f"pid {writer.pid};"):
                claim()


def test_a_second_writer_is_refused_within_one_process_too(ring: Ring) -> None:
    assert ring.writer_pid == 0
    publish(ring, 1)
    assert (ring.writer_pid, ring.writer_epoch) == (os.getpid(), 1)
    with pytest.raises(WriterAliveError, match=f"pid {os.getpid()};"):
        Ring.open_writer(ring.name)


def test_a_writer_that_closes_hands_over(ring: Ring, reader: Ring) -> None:
    publish(ring, 1, 2)
    ring.begin()["n"] = 99
    ring.close()
    assert reader.writer_pid == 0
    with Ring.open_writer(ring.name) as successor:
        publish(successor, 3)
        out = reader.buffer()
        assert reader.read_latest(out) == 2
        assert out["n"] == 3
        assert successor.writer_epoch == 2


def assert_all_but_the_overwritten_are_whole(reader: Ring) -> None:
    k = min(reader.slots - 1, reader.head)
    outs, out = np.zeros(reader.slots, SAMPLE), reader.buffer()
    assert reader.read_latest(out) == reader.head - 1
    assert is_whole(out, reader.head - 1)
    assert reader.read_window(outs, k) == reader.head - 1
    assert all(is_whole(outs[i], reader.head - k + i) for i in range(k))
    assert reader.lapped == 0


def assert_a_successor_resumes(name: str, reader: Ring) -> None:
    head, epoch = reader.head, reader.writer_epoch
    with Ring.open_writer(name) as successor:
        assert successor.writer_epoch == epoch + 1
        successor.begin()["word"] = head
        assert successor.commit() == head
    assert_all_but_the_overwritten_are_whole(reader)


@pytest.mark.parametrize("step", ["W1", "W3", "W5", "W7"])
def test_a_writer_killed_at_a_step_leaves_every_completed_sample(name: str, step: str) -> None:
    with (
        Ring.create(name, SAMPLE, slots=4),
        Ring.attach(name) as reader,
        peer("write_and_die_before", name, step) as writer,
    ):
        assert writer.wait() == -signal.SIGKILL
        assert reader.head == 10
        assert_all_but_the_overwritten_are_whole(reader)
        assert_a_successor_resumes(name, reader)


def test_a_writer_killed_at_random_leaves_every_completed_sample(name: str) -> None:
    with Ring.create(name, SAMPLE, slots=4), Ring.attach(name) as reader:
        for _ in range(6):
            with peer("write_forever", name) as writer:
                assert heard(writer) == "writing"
                enough = reader.head + random.randrange(1, 5000)
                while reader.head < enough:
                    pass
                writer.send_signal(signal.SIGKILL)
                writer.wait()
                assert_all_but_the_overwritten_are_whole(reader)
                assert_a_successor_resumes(name, reader)
        assert reader.writer_epoch == 12


def test_an_unreaped_writer_counts_as_dead(name: str) -> None:
    with Ring.create(name, SAMPLE), peer("write_forever", name) as writer:
        assert heard(writer) == "writing"
        writer.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in /proc
        Ring.open_writer(name).close()


def test_a_fifo_reader_returns_though_the_writer_is_stopped_in_mid_write(name: str) -> None:
    core = max(os.sched_getaffinity(0))
    with (
        Ring.create(name, SAMPLE, slots=2),
        peer("stop_in_mid_write", name, core) as writer,
    ):
        _, status = os.waitpid(writer.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        with peer("read_as_fifo", name, core) as reader:
            answer, _ = reader.communicate(timeout=30)  # a reader that spins never ends
        if answer.strip() == "refused":
            pytest.skip("SCHED_FIFO was refused: it needs CAP_SYS_NICE or an rtprio limit")
        assert answer.strip() == "0"
