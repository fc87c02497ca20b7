"""The rights that control needs, tried and not only looked up."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import msgspec

from rt.control.realtime import CAP_IPC_LOCK, Grant
from rt.doctor.row import Row, Subject, ask_python
from rt.session import holder, session_names

CAP_SYS_NICE = 23
LIMITS = "/etc/security/limits.d/rt.conf"

# What control does before its first tick, in a process that ends at once.
ENTER = """
import sys, msgspec
from rt.config import Realtime
from rt.control.realtime import enter
from rt.cores import divide
asked = msgspec.json.decode(sys.argv[1], type=Realtime)
print(msgspec.json.encode(enter(asked, divide(asked.cpu).control, require=False)).decode())
"""


def limits(subject: Subject) -> Iterator[Row]:
    """What this login may ask for."""
    priority = subject.realtime.priority
    for name, number, capability, enough, line in (
        ("rtprio", resource.RLIMIT_RTPRIO, CAP_SYS_NICE, priority, f"rtprio {max(50, priority)}"),
        ("memlock", resource.RLIMIT_MEMLOCK, CAP_IPC_LOCK, None, "memlock unlimited"),
    ):
        soft = resource.getrlimit(number)[0]
        unlimited = soft == resource.RLIM_INFINITY
        amount = f"{soft // 1024} KiB" if name == "memlock" else str(soft)
        exempt = _capable(subject, capability)
        yield Row(
            name=f"{name} limit",
            found="unlimited"
            if unlimited
            else amount + (", but root needs none" if exempt else ""),
            ok=exempt or unlimited or (enough is not None and soft >= enough),
            required=subject.require_rt,
            remedy=f'echo "$USER - {line}" | sudo tee -a {LIMITS}   # then log in again',
        )


def granted(subject: Subject) -> Iterator[Row]:
    """What control will get of all that it asks of the kernel."""
    if live := [name for name in session_names() if holder(name, "control") is not None]:
        # The trial would run on the live control's core, with its priority.
        found = f"not tried while {live[0]} runs: python -m rt.inspect shows what it got"
        yield Row(name="real time", found=found, ok=True)
    else:
        yield from tried(subject)


def tried(subject: Subject) -> Iterator[Row]:
    """It is asked for by a child in control's place."""
    asked = msgspec.json.encode(subject.realtime).decode()
    grants = msgspec.convert(ask_python(ENTER, asked, timeout_s=20), tuple[Grant, ...])
    for grant in grants:
        yield Row(
            name=grant.name,
            found=f"asked {grant.asked}, got {grant.granted}",
            ok=grant.ok,
            required=subject.require_rt,
            remedy=grant.remedy,
        )


def _capable(subject: Subject, capability: int) -> bool:
    status = (subject.root / "proc/self/status").read_text()
    effective = status.partition("CapEff:")[2].split()[0]
    return bool(int(effective, 16) >> capability & 1)
