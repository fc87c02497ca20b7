"""A cable to another network namespace, which the kernel makes as bad as it can."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

# Of the addresses that are set aside for tests of networks (RFC 2544).
HERE, THERE = "198.18.213.1", "198.18.213.2"


class Cable(NamedTuple):
    """What is at its other end."""

    address: str
    inside: tuple[str, ...]  # before a command: have it run there


@contextmanager
def cable(*words: str) -> Iterator[Cable]:
    """`words`: of tc, for the root qdisc of each end. Skips where this is not root, ip or tc are
    missing, or the kernel has no such qdisc."""
    if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
        pytest.skip("needs root, ip and tc")
    name = f"rt{os.getpid()}"
    near, far = f"{name}n", f"{name}f"
    try:
        for command in (
            f"ip netns add {name}",
            f"ip link add {near} type veth peer name {far} netns {name}",
            f"ip address add {HERE}/30 dev {near}",
            f"ip -n {name} address add {THERE}/30 dev {far}",
            f"ip link set {near} up",
            f"ip -n {name} link set {far} up",
            f"tc qdisc add dev {near} root {' '.join(words)}",
            f"tc -n {name} qdisc add dev {far} root {' '.join(words)}",
        ):
            _run(command)
        yield Cable(THERE, ("ip", "netns", "exec", name))
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)  # the cable with it


def _run(command: str) -> None:
    ended = subprocess.run(command.split(), capture_output=True, text=True)
    if ended.returncode:
        pytest.skip(f"{command}: {ended.stderr.strip()}")
