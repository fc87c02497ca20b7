"""Of what a recording is: the versions, the machine and the session, as its metadata tell them."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from rt.config import Config, encode_config
from rt.version import installed_version

LAYOUT = "2"  # of a recording; another number: this version cannot read it
META, CONFIG = "rt", "config"  # the names of the metadata
ROOT = Path(__file__).parents[2]


def origin(config: Config, offset_ns: int) -> dict[str, dict[str, str]]:
    """The metadata. offset_ns: from CLOCK_MONOTONIC to the wall clock."""
    return {
        META: {
            "layout": LAYOUT,
            "version": installed_version(),
            "git": git_version(ROOT),
            "session": config.run.session,
            "robot": config.robot.name,
            "algorithm": config.run.algorithm,
            "offset_ns": str(offset_ns),
            "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
            "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        },
        CONFIG: {"json": encode_config(config).decode()},
    }


def git_version(folder: Path) -> str:
    """The commit that lies in `folder`, "-dirty" behind it if files differ; "" if there is none."""
    if not (folder / ".git").exists():  # installed: the folder around it may be another project's
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
    unlocked = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # looks only
    try:
        asked = subprocess.run(command, env=unlocked, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
