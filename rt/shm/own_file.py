"""Opening a file in /dev/shm, where anybody may put anything under any name."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_own(path: Path, flags: int) -> int:
    """The descriptor of a plain file of ours that has no other name; with O_CREAT, mode 0600.

    Raises FileNotFoundError; PermissionError if it is another user's; OSError if it is anything
    else, such as a link, to what a writer would spoil, or a pipe, at which an open would wait.
    """
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    status = os.fstat(file)
    if status.st_uid != os.geteuid():
        os.close(file)
        raise PermissionError(errno.EPERM, f"made by user {status.st_uid}")
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(file)
        raise OSError(errno.EINVAL, "not a plain file with one name")
    return file
