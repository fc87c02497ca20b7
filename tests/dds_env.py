"""DDS that no other test run meets: loopback alone, a domain and a robot id of its own."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_count = itertools.count()


def fresh_domain() -> int:
    """A DDS domain that nobody on this machine is in; 0 is left to real robots."""
    while True:
        domain = 1 + (os.getpid() * 7 + next(_count)) % 230
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port, suppress(OSError):
            port.bind(("127.0.0.1", 7410 + 250 * domain))  # its first participant's
            return domain


def fresh_robot_id() -> str:
    """A robot id of this process's own, for where two test runs hit upon one domain."""
    return f"robot_{os.getpid()}_{next(_count)}"


@contextmanager
def peer(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """`tests/dds_peer.py` as a process beside this one; at the end it leaves in order."""
    program = Path(__file__).with_name("dds_peer.py")
    process = subprocess.Popen([sys.executable, str(program), *map(str, arguments)])
    try:
        yield process
    finally:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # one that a test has stopped
        process.wait()
