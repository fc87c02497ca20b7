"""A driver in a process of its own, as control has it: what it starts, keeps and imports.

Reads the configuration from standard input; says what it found as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import numpy as np

from rt.config import decode_config
from rt.robots.robot import open_robot
from rt.session import Session

TICKS = 50


def tasks() -> int:
    """Threads of any language."""
    return len(list(Path("/proc/self/task").iterdir()))


def files() -> list[str]:
    """Open files, sockets among them."""
    links = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(fd.readlink()))
        except FileNotFoundError:  # the folder's own
            continue
    return sorted(links)


def in_shm() -> set[str]:
    """What is mapped of /dev/shm."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "/dev/shm/" in line}


config = decode_config(sys.stdin.buffer.read())
found: dict[str, object] = {"files_before": files(), "tasks_before": tasks()}
robot = open_robot(config, Session(config.run.session))
robot.start_state_readers()
found["tasks_started"] = tasks()
python_threads = 0
for _ in range(TICKS):
    state = robot.read_state()
    robot.publish_action(np.nan_to_num(state.position))
    robot.hold()
    python_threads = max(python_threads, threading.active_count(), len(sys._current_frames()))
found["tasks_ticked"] = tasks()
found["python_threads"] = python_threads
found["shm"] = sorted(in_shm())
robot.shutdown()
found["tasks_after"] = tasks()
found["files_after"] = files()
found["modules"] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(found))
