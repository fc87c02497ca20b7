"""A session: a name, two locks, and the segments `/rt.<session>.<ring>`.

Guarantees:
  - At most one supervisor and one control process hold a session, each by a flock that the kernel
    releases when its holder dies, however it dies; and one real robot, by a third (`robot_lock`).
  - Segments are removed only by a process that holds both locks.

The locks lie beside the segments that they guard, in /dev/shm, so whoever sees the one sees the
other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from rt import records
from rt.config import Config, decode_config, encode_config
from rt.config.check import session_name_problem
from rt.errors import (
    ConfigError,
    NoSessionError,
    SegmentMissingError,
    SessionError,
    SessionLiveError,
    ShmFullError,
)
from rt.shm import Ring
from rt.shm.own_file import open_own

SHM = Path("/dev/shm")
TICK_HISTORY = 2048  # ticks that inspect and the summary can look back
CHUNK_HISTORY = 128  # chunks: three quarters of them, at 20 Hz and s >= 3 more than the last 10 s


def check_name(name: str) -> str:
    """`name`, or a SessionError that says what a name may be."""
    if problem := session_name_problem(name):
        raise SessionError(problem)
    return name


def ring_name(session: str, ring: str) -> str:
    """The segment's name, e.g. `/rt.igris_b.tick`."""
    return f"/rt.{session}.{ring}"


class Lock:
    """A flock on `/dev/shm/rt.<session>.<role>.lock`, held until `release` or death."""

    def __init__(self, session: str, role: str) -> None:
        """Take the lock. Raises SessionLiveError naming the pid that holds it."""
        self.path = SHM / f"rt.{session}.{role}.lock"
        for attempt in range(20):
            try:
                fd = open_own(self.path, os.O_RDWR | os.O_CREAT)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise _full(self.path) from None
                raise SessionLiveError(
                    f"session {session!r}: {self.path} is not a lock of ours ({error.strerror}): "
                    "choose another name with --session NAME, or remove it"
                ) from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
                os.close(fd)
                if attempt < 4:  # it may be a passing look by `holder()`
                    time.sleep(0.01)
                    continue
                raise SessionLiveError(
                    f"session {session!r} is already running ({role} pid {pid}): "
                    "stop it, or choose another name with --session NAME"
                ) from None
            # The holder before us may have unlinked the file between our open and our lock:
            # then we hold a file that no one else can see.
            if self._is_at_path(fd):
                self.fd = fd
                self._sign()
                return
            os.close(fd)
        raise SessionLiveError(f"session {session!r}: {self.path.name} changes hands too fast")

    def _sign(self) -> None:
        """Write our pid, so that whoever is refused can be told."""
        try:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, str(os.getpid()).encode(), 0)
        except OSError as error:
            self.release()
            if error.errno != errno.ENOSPC:
                raise
            raise _full(self.path) from None

    def _is_at_path(self, fd: int) -> bool:
        try:
            ours, theirs = os.fstat(fd), self.path.stat()
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)

    def release(self) -> None:
        """Remove the file, then let the lock go. Harmless when already released."""
        if self.fd >= 0:
            if self._is_at_path(self.fd):
                self.path.unlink(missing_ok=True)
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def holder(session: str, role: str) -> int | None:
    """The pid that holds the lock; 0: somebody, but who is not to be told; None: nobody."""
    try:
        fd = open_own(SHM / f"rt.{session}.{role}.lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError:
        return 0  # another user's, or no lock: we cannot look, so it may be live
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)


def _full(path: Path) -> ShmFullError:
    return ShmFullError(
        f"/dev/shm is full: expected room for {path.name}: free some, "
        "e.g. with python -m rt.inspect --clean"
    )


def robot_lock(config: Config) -> AbstractContextManager[object]:
    """Of a real robot, for control: whatever their names, no two sessions may command it.

    Raises SessionLiveError naming the pid that does.
    """
    if not config.run.real:
        return nullcontext()
    robot_id, domain = config.topics.robot_id, config.run.domain
    name = f"robot-{config.robot.name}-{robot_id}-{domain}"
    try:
        return Lock(name, "control")
    except SessionLiveError:
        pid = holder(name, "control")
        remedy = f"stop that one first (control pid {pid})"
        if not pid:
            remedy = f"stop that one first, or remove what it left: {SHM}/rt.{name}.control.lock"
        raise SessionLiveError(
            f"robot {robot_id!r} ({config.robot.name}, domain {domain}) is already driven by "
            f"another session: {remedy}"
        ) from None


def ring_table(config: Config) -> dict[str, tuple[np.dtype[np.void], int]]:
    """Every ring of a session that all robots have: name → (dtype, slots)."""
    p = config.params
    history = p.proprio_history_size * p.ticks_per_row
    # Enough frames to look back over the image history.
    fps = max((camera.fps for camera in config.robot.cameras.values()), default=60.0)
    frames = int(max(fps, 60.0) * (p.num_img_obs - 1) * p.img_obs_every / p.HZ) + 8
    image = p.mono_image_resize
    table = {
        "session": (records.SESSION, 2),
        "tick": (
            records.tick_dtype(p.proprio_state_dim, p.action_dim),
            max(TICK_HISTORY, history) + 64,
        ),
        "chunk": (records.chunk_dtype(p.action_chunk_size, p.action_dim), CHUNK_HISTORY),
        "command": (records.COMMAND, 8),
    }
    for camera in p.camera_names:
        table[f"frame.{camera}"] = (records.frame_dtype(image.height, image.width), frames)
    return table


class Session:
    """A session as its processes see it: attach to a ring by its short name."""

    def __init__(self, name: str) -> None:
        self.name = check_name(name)

    def create(self, table: dict[str, tuple[np.dtype[np.void], int]]) -> None:
        """Make the segments. The caller holds the supervisor's lock."""
        for ring, (dtype, slots) in table.items():
            Ring.create(ring_name(self.name, ring), dtype, slots=slots, session=self.name).close()

    def reader(self, ring: str, dtype: np.dtype[np.void] | None = None) -> Ring:
        """Attach read-only. Raises LayoutError if it is not of `dtype`, if given."""
        return Ring.attach(ring_name(self.name, ring), dtype)

    def writer(self, ring: str) -> Ring:
        """Become the ring's one writer."""
        return Ring.open_writer(ring_name(self.name, ring))

    def rings(self) -> list[str]:
        """Short names of the segments that exist."""
        prefix = f"rt.{self.name}."
        return sorted(
            p.name.removeprefix(prefix)
            for p in SHM.glob(f"{prefix}*")
            if not p.name.endswith(".lock")
        )

    def publish_config(self, config: Config) -> None:
        """Write the session record."""
        with self.writer("session") as ring:
            record = ring.buffer()
            encoded = encode_config(config)
            if len(encoded) >= records.SESSION["json"].itemsize:
                raise SessionError(
                    f"the configuration takes {len(encoded)} bytes as JSON, expected at most "
                    f"{records.SESSION['json'].itemsize - 1}: shorten its strings"
                )
            record["json"] = encoded
            ring.write(record)

    def config(self) -> Config:
        """The session's configuration. Raises NoSessionError when there is none."""
        try:
            with self.reader("session", records.SESSION) as ring:
                record = ring.buffer()
                if ring.read_latest(record) is None:
                    raise SegmentMissingError("the session record is empty")
                return decode_config(record["json"].item())
        except ConfigError:
            raise SessionError(
                f"session {self.name!r} was started by another version of rt: look at it with that "
                "one, or choose another with --session NAME"
            ) from None
        except SegmentMissingError:
            raise NoSessionError(
                f"no session {self.name!r} is running: start one with "
                "python -m rt.launch, or name another with --session NAME"
            ) from None

    def clean(self) -> list[str]:
        """Unlink every segment; returns what was there. The caller holds the locks."""
        found = self.rings()
        for ring in found:
            Ring.unlink(ring_name(self.name, ring))
        return found


def session_names() -> list[str]:
    """Every session that has a segment or a lock in /dev/shm."""
    names = {p.name.split(".")[1] for p in SHM.glob("rt.*.*")}
    return sorted(name for name in names if not session_name_problem(name))


def clean_dead_sessions(names: Iterable[str]) -> dict[str, list[str]]:
    """Remove what those of `names` left that have died; returns session → segments removed."""
    removed = {}
    for name in names:
        try:
            with Lock(name, "supervisor"), Lock(name, "control"):
                removed[name] = Session(name).clean()
        except SessionLiveError:
            continue
    return removed
