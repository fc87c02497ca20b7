"""What the kernel is asked about a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rt.cores import cpu_share

IDLE = "import time; print(flush=True); time.sleep(60)"
BUSY = "import time; print(flush=True)\nwhile True: pass"


@contextmanager
def program(code: str) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_busy_process_is_told_from_an_idle_one_by_its_share() -> None:
    with program(IDLE) as idle, program(BUSY) as busy:
        deadline = time.monotonic() + 60
        while not cpu_share(busy) > 5 * cpu_share(idle) + 0.05:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert cpu_share(busy) < 1.2, "it has one thread"


def test_a_process_that_is_gone_has_no_share() -> None:
    with program(IDLE) as pid:
        pass
    with pytest.raises(ProcessLookupError, match=f"no process {pid}"):
        cpu_share(pid)
