"""/dev/shm without room, at the start and during the run: a real tmpfs, in a mount namespace.

The namespace is an unprivileged user's: memory is not locked there, which would hide that a page
was not allocated.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from full_shm import Seen
from launched import ROOT
from reliability import tell
from scale import Scale

LEAST, MOST = 4 << 10, 4 << 20  # bytes: a page, and less than any session needs
LIST = "ls -A /dev/shm"


def with_shm(octets: int, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The shell script with a /dev/shm of its own, of so many bytes; "$@" are the arguments."""
    mounted = f"mount -t tmpfs -o size={octets} none /dev/shm && {{ {script}; }}"
    told = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mounted, "sh", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if told.returncode and ("unshare:" in told.stderr or "mount:" in told.stderr):
        pytest.skip(f"no mount namespace here: {told.stderr.strip()}")
    return told


def test_a_start_without_room_is_one_sentence_and_leaves_nothing(
    scale: Scale, dice: random.Random
) -> None:
    sizes = [LEAST, *(dice.randint(LEAST, MOST) for _ in range(scale.starts - 1))]
    launch = (sys.executable, "-m", "rt.launch", "--robot", "igris_b")
    for octets in sizes:
        told = with_shm(octets, f'"$@"; echo "code $?"; {LIST}', *launch)
        assert told.stdout == "code 2\n", (octets, told)
        assert len(told.stderr.splitlines()) == 1, (octets, told)
        assert "/dev/shm" in told.stderr, (octets, told)
    tell(
        "machine",
        f"/dev/shm full at the start: {len(sizes)} sizes from {LEAST:,} to {max(sizes):,} B",
        "one sentence, exit code 2, nothing left, each time",
    )


def test_a_session_goes_on_while_dev_shm_is_full() -> None:
    """All that it uses was allocated when it was made."""
    program = Path(__file__).with_name("full_shm.py")
    told = with_shm(64 << 20, '"$@"', sys.executable, str(program))
    assert told.returncode == 0, told.stderr
    seen = msgspec.json.decode(told.stdout, type=Seen)
    assert seen.session_octets > MOST
    assert seen.free_octets == 0
    assert (seen.answered, seen.restarted, seen.exit_code, seen.left) == (True, True, 0, []), seen
    tell(
        "machine",
        "/dev/shm filled to the last page while a session runs, inference killed in that state",
        f"{seen.ticks} ticks, {seen.chunks} chunks, inference restarted, orders answered, ended in "
        f"order, nothing left (the session has {seen.session_octets / 1e6:.1f} MB, all of it "
        "allocated at the start)",
    )
