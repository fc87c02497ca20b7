"""The one clock: CLOCK_MONOTONIC in integer nanoseconds, and when the ticks of a period are due.

Guarantees:
  - Times are comparable between all processes of the machine; the wall clock's steps do not
    touch them.
  - `sleep_until` never returns True before its time. It returns False at once when a signal came,
    so that the signal's Python handler runs; the caller looks at its flag and sleeps again.

Assumptions:
  - Linux, where Python's `time.monotonic_ns` is CLOCK_MONOTONIC (a test compares the two).
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import NamedTuple

TIMER_ABSTIME = 1
NS_PER_S = 1_000_000_000

now_ns = time.monotonic_ns


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


# CDLL, which lets the GIL go during the call, and not PyDLL, which keeps it: a sleeper that kept
# it would freeze every other Python thread of its process (a driver's callbacks, say). With no
# other thread, as in control, the two cost the same: 1000 sleeps of 1 ms woke 100 us late in the
# median with either, and the call itself took the same time within its noise (2-core VM).
_clock_nanosleep = ctypes.CDLL(None).clock_nanosleep
_clock_nanosleep.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(_Timespec),
    ctypes.c_void_p,
)
_clock_nanosleep.restype = ctypes.c_int


def sleep_until(t_ns: int) -> bool:
    """Sleep until `now_ns()` is `t_ns`; True then, False if a signal ended the sleep early.

    A time in the past returns True at once. The sleep is absolute, so that being preempted before
    it adds nothing. A signal that comes between the caller's look at its flag and the kernel's
    sleep does not end it: bound `t_ns` where that matters.
    """
    if t_ns <= now_ns():  # saves the system call; and the kernel refuses negative times
        return True
    # A timespec of its own per call: the GIL is free while the kernel reads it.
    due = _Timespec(*divmod(t_ns, NS_PER_S))
    error: int = _clock_nanosleep(time.CLOCK_MONOTONIC, TIMER_ABSTIME, due, None)
    if not error:  # asked first: whatever comes after the kernel's wake makes it later
        return True
    if error != errno.EINTR:
        raise OSError(error, os.strerror(error))
    return False


class Ticks(NamedTuple):
    """Tick `k` is due at `epoch_ns + k * period_ns`; everyone can compute it."""

    epoch_ns: int
    period_ns: int

    def due(self, k: int) -> int:
        """When tick `k` is due, ns."""
        return self.epoch_ns + k * self.period_ns

    def at(self, t_ns: int) -> int:
        """The newest tick that is due at or before `t_ns`; negative before the epoch."""
        return (t_ns - self.epoch_ns) // self.period_ns

    def next_after(self, t_ns: int) -> int:
        """The first tick that is due strictly after `t_ns`."""
        return self.at(t_ns) + 1
