"""What keeps a machine busy while control runs: inference, a memory hog, a disk writer.

Inference is kept off control's core, as launch does; the hog and the writer may run anywhere, with
the ordinary scheduler.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from rt.config.load import load_config
from rt.launcher.options import parse

# The demonstration policy as it is, guided, without a pause.
INFERENCE = """
import sys, torch
from rt.infer import build_policy
torch.set_num_threads(1)
policy = build_policy(sys.argv[1])
print("busy", flush=True)
while True:
    policy.warmup()
"""
# 256 MB copied without end: more than any cache holds.
HOG = """
import numpy as np
a, b = np.ones(1 << 25), np.ones(1 << 25)
print("busy", flush=True)
while True:
    np.copyto(a, b)
    np.copyto(b, a)
"""
# 1 MB at a time into a file of 64 MB, each really on the disk before the next.
DISK = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR)
block = os.urandom(1 << 20)
print("busy", flush=True)
while True:
    for i in range(64):
        os.pwrite(file, block, i << 20)
        os.fsync(file)
"""


@contextmanager
def busy(others: tuple[int, ...], available: tuple[int, ...]) -> Iterator[None]:
    """All three, from when they are busy. `others`: the cores for inference."""
    policy = load_config(parse(["--robot", "igris_b"])).config.run.policy_yaml_path
    # /var/tmp and not /tmp, which may be memory.
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        started = [
            _start(INFERENCE, policy, others),
            _start(HOG, "", available),
            _start(DISK, file.name, available),
        ]
        try:
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline() == b"busy\n"
            yield
        finally:
            for process in started:
                process.kill()
                process.communicate()


def _start(script: str, argument: str, cores: tuple[int, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, argument],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
