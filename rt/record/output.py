"""Where a recording goes: a folder that is looked at beforehand, and a file that is never torn."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from rt.errors import ConfigError
from rt.extras import need

FREE_BYTES = 64 * 2**20  # that a recording leaves on the disk: a robot's other programs need some


class Output:
    """A new file, written by position: a write is in it whole, or the file is as it was before."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, FileExistsError if there is one of that name."""
        self.path = path
        # As its session's rings, nobody else's to read: it has the images of whoever stood there.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._at = 0

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:
        """Raises OSError when it does not fit."""
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._fd, memoryview(data)[done:], self._at + done)
        except OSError:
            os.ftruncate(self._fd, self._at)
            raise
        self._at += done
        return done

    def flush(self) -> None:
        """Wait until it is on the disk, which outlives a loss of power too."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def free_bytes(folder: Path) -> int:
    """How much may still be written there."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def check_folder(folder: Path) -> None:
    """See, before anything starts, that a session can be recorded there; makes the folder.

    Raises MissingPackageError, ConfigError.
    """
    need("record", "a recording")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = free_bytes(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    if free < FREE_BYTES:
        raise ConfigError(
            f"recording to {folder}: expected at least {FREE_BYTES / 1e6:.0f} MB free there, got "
            f"{free / 1e6:.0f} MB: free some, or name another folder"
        )


def new_output(folder: Path, session: str) -> Output:
    """A file of the session's name and this second's. Raises ConfigError if it cannot be made."""
    stem = f"{session}_{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.mcap"
        try:
            return Output(path)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"recording to {folder}: expected a folder that can be written to, got: "
        f"{error.strerror}: name another"
    )
