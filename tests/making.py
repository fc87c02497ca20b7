"""What the fixtures of conftest.py give."""

from __future__ import annotations

from collections.abc import Callable

from rt.shm import Ring
from rt.testing import SimulatedRun

MakeRing = Callable[..., Ring]
Simulate = Callable[..., SimulatedRun]
