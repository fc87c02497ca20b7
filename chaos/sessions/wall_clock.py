"""A wall clock of one's own (stand_ins/wall_clock.c), which can be set while it is being used."""

from __future__ import annotations

import mmap
import shutil
import subprocess
from pathlib import Path

import pytest

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
SOURCE = Path(__file__).parent / "stand_ins" / "wall_clock.c"
COMPILE = ("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror")


def build(folder: Path) -> Path | None:
    """Compile the stand-in, and where it is; None if there is no compiler."""
    if COMPILER is None:
        return None
    library = folder / "wall_clock.so"
    subprocess.run([*COMPILE, "-o", library, SOURCE, "-ldl"], check=True)
    return library


class WallClock:
    """Whoever is started with `environment` has this clock. It begins as the machine's."""

    def __init__(self, library: Path | None, file: Path) -> None:
        """`file` is made, and tells the clock's readers how far it is ahead. Without a `library`
        it has no readers."""
        file.write_bytes(bytes(8))
        preload = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(file)}
        self.environment = preload if library else {}
        with file.open("r+b") as opened:
            self._ahead = mmap.mmap(opened.fileno(), 8)

    def set(self, ahead_s: float) -> None:
        """Be so many seconds ahead of the machine's from now on."""
        self._ahead[:] = round(ahead_s * 1e9).to_bytes(8, "little", signed=True)
