"""The newest ticks and chunks, whole and in order, however they come."""

from __future__ import annotations

import pytest
from making import MakeRing

from rt.history import CHUNKS, History
from rt.records import chunk_dtype, tick_dtype
from rt.shm import Ring

KEEP = 10


def write(ring: Ring, field: str, value: int) -> None:
    record = ring.buffer()
    record[field] = value
    ring.write(record)


@pytest.mark.parametrize("burst", [1, 3, 7, 10, 13, 24])
def test_the_newest_ticks_are_kept_in_their_order(make_ring: MakeRing, burst: int) -> None:
    ticks, chunks = make_ring(tick_dtype(2, 2), 32), make_ring(chunk_dtype(4, 2))
    history = History(ticks, chunks, KEEP)
    assert len(history.ticks) == 0
    told: list[int] = []
    for k in range(100):
        write(ticks, "tick", k)
        if k % burst == 0:
            told += history.update()["tick"].tolist()
            assert history.ticks["tick"].tolist() == list(range(max(0, k + 1 - KEEP), k + 1))
    assert told == list(range(len(told))), "each is told once"


def test_chunks_are_kept_by_their_index_and_not_for_ever(make_ring: MakeRing) -> None:
    ticks, chunks = make_ring(tick_dtype(2, 2)), make_ring(chunk_dtype(4, 2))
    history = History(ticks, chunks, KEEP)
    for n in range(CHUNKS + 30):
        write(chunks, "first_tick", 3 * n)
        history.update()
        assert max(history.chunks) == n
    assert list(history.chunks) == list(range(30, CHUNKS + 30))
    assert all(int(chunk["first_tick"]) == 3 * n for n, chunk in history.chunks.items())
