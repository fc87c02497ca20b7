"""A wall clock of one's own (stand_ins/wall_clock.c), which can be set while it is being used."""

from __future__ import annotations

import mmap
import shutil
import subprocess
from pathlib import Path

import pytest

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
SOURCE = Path(__file__).parent / "stand_ins" / "wall_clock.c"
COMPILE = ("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror")


def build(folder: Path) -> Path:
    """Compile the stand-in, and where it is."""
    library = folder / "wall_clock.so"
    subprocess.run([*COMPILE, "-o", library, SOURCE, "-ldl"], check=True)
    return library


class WallClock:
    """Whoever is started with `environment` has this clock. It begins as the machine's."""

    def __init__(self, library: Path, file: Path) -> None:
        """`file` is made, and tells the clock's readers how far it is ahead."""
        file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(file)}
        with file.open("r+b") as opened:
            self._ahead = mmap.mmap(opened.fileno(), 8)

    def set(self, ahead_s: float) -> None:
        """Be so many seconds ahead of the machine's from now on."""
        self._ahead[:] = round(ahead_s * 1e9).to_bytes(8, "little", signed=True)
