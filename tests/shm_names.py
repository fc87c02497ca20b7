"""Names in /dev/shm that no other test run uses."""

from __future__ import annotations

import itertools
import os

_count = itertools.count()


def fresh_name() -> str:
    """A name of this process's own, never given twice."""
    return f"rt-test.{os.getpid()}.{next(_count)}"
