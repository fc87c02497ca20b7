"""Python, what is installed beside it, and the GPU."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from rt.doctor.row import AskError, Row, Subject, ask_python
from rt.errors import FenceError
from rt.extras import EXTRAS, missing
from rt.shm.fence import fences

OLDEST = (3, 11)
GPU = """
import json, torch
name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
print(json.dumps([torch.__version__, name]))
"""


def python(_: Subject) -> Iterator[Row]:
    """Its version."""
    yield Row(
        name="python",
        found=f"{platform.python_version()}, {sys.executable}",
        ok=sys.version_info >= OLDEST,
        required=True,
        remedy=f"make a venv with Python {OLDEST[0]}.{OLDEST[1]} or newer",
    )


def memory_fences(_: Subject) -> Iterator[Row]:
    """What the rings need of this CPU; libatomic's on aarch64."""
    try:
        fences(payload_bytes=1)
        found, ok = f"known for {platform.machine()}: no reader takes half a record for whole", True
    except FenceError as error:
        found, ok = str(error), False
    yield Row(
        name="memory fences",
        found=found,
        ok=ok,
        required=True,
        remedy="sudo apt install libatomic1",
    )


def extras(_: Subject) -> Iterator[Row]:
    """The optional packages. What the chosen --io needs of them is looked at with the robot."""
    for extra, modules in EXTRAS.items():
        absent = missing(extra)
        yield Row(
            name=f"extra [{extra}]",
            found=f"no {', '.join(absent)}" if absent else ", ".join(modules),
            ok=not absent,
            remedy=f"in the project's folder, pip install -e '.[{extra}]'",
        )


def gpu(subject: Subject) -> Iterator[Row]:
    """Whether torch reaches one. The demonstration's policy needs none."""
    try:
        version, name = ask_python(GPU, timeout_s=60)
    except AskError as error:
        yield Row(
            name="gpu",
            found=f"torch: {error}",
            ok=False,
            required=True,
            remedy="pip install torch; if it hangs: nvidia-smi, and the kernel's log",
        )
        return
    device = (subject.root / "dev/nvidia0").exists() or Path("/proc/driver/nvidia").exists()
    remedy = "none here: a large policy needs one; the demonstration's does not"
    if device:
        remedy = "install a torch that is built for this driver's CUDA: nvidia-smi shows which"
    found = f"{name or 'none reached'}, torch {version}"
    yield Row(name="gpu", found=found, ok=bool(name), remedy=remedy)
