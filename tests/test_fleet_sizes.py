"""The tables of docs/fleet.md follow from its formulas and figures."""

from __future__ import annotations

import sys

import pytest
from launched import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import size_fleet
from size_fleet import Batch, Robot

PAGE = (ROOT / "docs" / "fleet.md").read_text()


@pytest.mark.parametrize("make", size_fleet.TABLES)
def test_the_page_shows_what_was_computed(make: size_fleet.Table) -> None:
    assert make() in PAGE


def test_gpus_are_the_chunks_over_what_one_gives() -> None:
    robot, batch = Robot(hz=20, horizon=50, executed=25), Batch(2, 0.1, "")
    assert robot.chunks_per_s == 0.8  # 100 of them: 80 chunks/s; a GPU: 20, of which half
    assert size_fleet.gpus(100, robot, batch, u=0.5) == 8
    assert size_fleet.gpus(101, robot, batch, u=0.5) == 9
    assert size_fleet.robots_of(8, robot, batch, u=0.5) == pytest.approx(100)
    assert size_fleet.busy(100, robot, batch, count=8) == pytest.approx(0.5)


def test_what_may_die_is_there_twice() -> None:
    robot, batch = Robot(hz=20, horizon=50, executed=25), Batch(1, 0.1, "")
    assert size_fleet.with_spare(100, robot, batch, largest=1) == 14  # 13.3 at u = 0.6
    assert size_fleet.with_spare(100, robot, batch, largest=8) == 18  # 10 at 0.8, and 8


def test_a_busier_gpu_has_a_longer_queue() -> None:
    assert size_fleet.waits(0.5) == 0.5
    assert size_fleet.waits(0.8) == pytest.approx(2.0)
    assert size_fleet.waits(1.0) == float("inf")
