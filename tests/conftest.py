"""Fixtures that clean up after themselves: rings and simulated runs with names of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from making import MakeRing, Simulate
from shm_names import fresh_name

from rt.shm import Ring
from rt.testing import SimulatedRun


@pytest.fixture
def make_ring() -> Iterator[MakeRing]:
    """`make_ring(dtype, slots=8)`: a new ring, removed after the test."""
    rings: list[Ring] = []

    def make(dtype: np.dtype[Any], slots: int = 8) -> Ring:
        rings.append(Ring.create(fresh_name(), dtype, slots=slots))
        return rings[-1]

    yield make
    for ring in rings:
        Ring.unlink(ring.name)
        ring.close()


@pytest.fixture
def simulate() -> Iterator[Simulate]:
    """`simulate(config, ...)`: a SimulatedRun, closed after the test."""
    runs: list[SimulatedRun] = []

    def make(*args: Any, **options: Any) -> SimulatedRun:
        runs.append(SimulatedRun(*args, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.close()
