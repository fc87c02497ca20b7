"""The run itself: whether rt.launch would take it, its memory, its cameras, what died before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rt.cli import is_live
from rt.config import Config
from rt.doctor.row import Row, Subject
from rt.errors import RtError
from rt.launcher.prepare import check_run
from rt.robots.robot import find_backend, resolve
from rt.session import ring_table, session_names
from rt.shm.layout import layout_for

MIB = 2**20
SYSTEM_UIDS = 999  # the last of them


def launch(subject: Subject) -> Iterator[Row]:
    """Whether rt.launch would take this robot, --io and policy."""
    if (config := subject.config) is None:
        return
    fake = ", the fake one" if config.run.fake else ""
    try:
        check_run(config)
        found, ok = f"{config.robot.name}, --io {config.run.io}{fake}: nothing against it", True
    except RtError as error:
        found, ok = str(error), False
    remedy = "mend what that names, by a flag or in the file"
    yield Row(name="launch", found=found, ok=ok, required=True, remedy=remedy)


def shared_memory(subject: Subject) -> Iterator[Row]:
    """Room for the session's rings."""
    folder = os.statvfs(subject.root / "dev/shm")
    size, free = folder.f_blocks * folder.f_frsize, folder.f_bavail * folder.f_frsize
    need = rings_bytes(subject.config) if subject.config else 0
    needs = f", a session needs {_mib(need)}" if need else ""
    room = (size - free + need) // MIB + 64  # what others hold, ours, and something over
    yield Row(
        name="/dev/shm",
        found=f"{_mib(free)} free of {_mib(size)}{needs}",
        ok=free > need,
        required=True,
        remedy=f"sudo mount -o remount,size={room}M /dev/shm",
    )


def rings_bytes(config: Config) -> int:
    """What the session's rings take in /dev/shm, without the children's small status rings."""
    table = ring_table(config)
    with contextlib.suppress(RtError):  # told by the row of `launch`
        if rings := find_backend(config).rings:
            table |= resolve(rings, config)(config)
    return sum(layout_for(name, dtype, slots).size for name, (dtype, slots) in table.items())


def cameras(subject: Subject) -> Iterator[Row]:
    """Whether each camera is there and may be used."""
    config = subject.config
    if config is None or not config.run.opens_cameras:
        return
    by_id = (subject.root / "dev/v4l/by-id").glob("*")
    there = ", ".join(sorted(str(path) for path in by_id)) or "no camera"
    for name in config.params.camera_names:
        camera = config.robot.cameras.get(name)
        source = camera.source if camera else "named in no file"
        path = subject.root / source.lstrip("/") if source.startswith("/") else Path(source)
        found, ok, remedy = source, True, ""
        if not path.exists():
            found, ok = f"{source}, but nothing is there", False
            remedy = f"plug it in, or set robot.cameras.{name}.source: there is {there}"
        elif not os.access(path, os.R_OK | (os.W_OK if path.is_char_device() else 0)):
            found, ok = f"{source}, but it may not be used", False
            remedy = "sudo usermod -aG video $USER   # then log in again"
        yield Row(name=f"camera {name}", found=found, ok=ok, required=True, remedy=remedy)


def leftovers(_: Subject) -> Iterator[Row]:
    """What dead sessions left in /dev/shm."""
    dead = [name for name in session_names() if not is_live(name)]
    yield Row(
        name="dead sessions",
        found=", ".join(dead) or "none",
        ok=not dead,
        remedy="python -m rt.inspect --clean",
    )


def logout(subject: Subject) -> Iterator[Row]:
    """Whether logind would remove a running session's memory when its user logs out.

    It does so by default (RemoveIPC=, logind.conf(5)) for every user who is no system user; one
    that lingers never counts as logged out.
    """
    uid, root = os.getuid(), subject.root
    user = subject.env.get("USER") or str(uid)
    spared = (
        uid <= SYSTEM_UIDS
        or not (root / "run/systemd/system").exists()
        or (root / "var/lib/systemd/linger" / user).exists()
        or _removes_no_ipc(root / "etc/systemd")
    )
    yield Row(
        name="logout",
        found=f"user {user}'s shared memory " + ("stays" if spared else "is removed by logind"),
        ok=spared,
        remedy=f"sudo loginctl enable-linger {user}",
    )


def _removes_no_ipc(folder: Path) -> bool:
    files = [folder / "logind.conf", *sorted((folder / "logind.conf.d").glob("*.conf"))]
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    chosen = [line for line in lines if line.replace(" ", "").startswith("RemoveIPC=")]
    return bool(chosen) and chosen[-1].partition("=")[2].strip().lower() in ("no", "false", "0")


def _mib(nbytes: int) -> str:
    return f"{nbytes / MIB:.0f} MiB"
