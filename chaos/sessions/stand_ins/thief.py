"""Takes a core away: `python thief.py PID`, then a line `MS` for each time; says when it is over.

With the rights it spins above every other process on the cores of process PID; without them it
stops PID for as long. Either way PID runs nothing meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import time

PRIORITY = 90  # control's is 45


def above_all(pid: int) -> bool:
    """Whether this process now runs above all on the core of `pid`, which must have one alone."""
    cores = os.sched_getaffinity(pid)
    if len(cores) > 1:
        return False
    try:
        os.sched_setaffinity(0, cores)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        return False
    return True


def main(pid: int) -> None:
    """Serve until the end of stdin."""
    spins = above_all(pid)
    print("spins" if spins else "stops it", flush=True)
    for line in sys.stdin:
        seconds = float(line) / 1e3
        until = time.monotonic() + seconds
        if spins:
            while time.monotonic() < until:
                pass
        else:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        print("done", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
