"""What can be made to go wrong with the fake robot: `NAME SECONDS [WHERE]`, given while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from rt.config.words import nearest
from rt.errors import RobotError

FAULTS = {
    "stall": "publishes nothing",
    "short": "its arrays lack their last value",
    "long": "its arrays have a value too many",
    "nan": "its arrays begin with a NaN",
    "names": "its joint names come in another order",
    "flood": "publishes ten times as often",
    "block": "its joints stand still whatever it is commanded, as after an emergency stop",
    "status": "a motor reports an error (igris_c; WHERE is the motor's index)",
}
FLOOD = 10
LONGEST_S = 3600.0
EXAMPLE = "'stall 2', or 'short 2 fingers' for one topic of the topics file"


class Fault(NamedTuple):
    """One fault, from when it is given."""

    name: str
    seconds: float
    where: str = ""  # the topic's key in the topics file, or a motor's index; "": all, or the first

    def __str__(self) -> str:
        return f"{self.name} {self.seconds:g} {self.where}".rstrip()


def parse_fault(text: str) -> Fault:
    """`stall 2 joints` → Fault("stall", 2.0, "joints"). Raises RobotError for anything else."""
    words = text.split()
    if not 2 <= len(words) <= 3:
        raise RobotError(f"fault {text!r}: expected NAME SECONDS [WHERE], e.g. {EXAMPLE}")
    name, seconds, *where = words
    if name not in FAULTS:
        raise RobotError(f"fault {text!r}: unknown fault {name!r}: {nearest(name, FAULTS)}")
    try:
        duration_s = float(seconds)
    except ValueError:
        duration_s = math.nan
    if not 0 < duration_s <= LONGEST_S:
        raise RobotError(
            f"fault {text!r}: expected seconds > 0 and <= {LONGEST_S:g}, got {seconds!r}, "
            f"e.g. {EXAMPLE}"
        )
    return Fault(name, duration_s, *where)


class Faults:
    """The faults in force now."""

    def __init__(self) -> None:
        self._until: dict[Fault, int] = {}  # ns

    def add(self, fault: Fault, now_ns: int) -> None:
        """Begin with `fault`."""
        self._until[fault] = now_ns + round(fault.seconds * 1e9)

    def expire(self, now_ns: int) -> None:
        """Forget those that are over."""
        self._until = {fault: end for fault, end in self._until.items() if end > now_ns}

    def on(self, name: str, where: str = "") -> bool:
        """Whether the fault is in force there."""
        return any(f.name == name and f.where in ("", where) for f in self._until)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._until)
