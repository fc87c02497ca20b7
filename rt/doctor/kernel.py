"""The kernel: its preemption, its clock, its cores."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from rt.cores import divide, scheduling
from rt.doctor.row import Row, Subject

# A read of any of these takes tens of nanoseconds; of the others about a microsecond.
FAST_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page")
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}


def kernel(subject: Subject) -> Iterator[Row]:
    """PREEMPT_RT, or a stock kernel."""
    version = (subject.root / "proc/version").read_text()
    flag = subject.root / "sys/kernel/realtime"
    realtime = "PREEMPT_RT" in version or (flag.exists() and flag.read_text().strip() == "1")
    package = f"linux-image-rt-{DEBIAN.get(platform.machine(), platform.machine())}"
    yield Row(
        name="kernel",
        found=f"{version.split()[2]}, {'PREEMPT_RT' if realtime else 'stock'}",
        ok=realtime,
        remedy=f"Debian: sudo apt install {package}; Ubuntu: sudo pro enable realtime-kernel "
        "(a stock one will do where a late tick now and then does no harm)",
    )


def clock_source(subject: Subject) -> Iterator[Row]:
    """What CLOCK_MONOTONIC is read from, at every tick."""
    folder = subject.root / "sys/devices/system/clocksource/clocksource0"
    current = (folder / "current_clocksource").read_text().strip()
    yield Row(
        name="clock source",
        found=current,
        ok=current in FAST_CLOCKS,
        remedy="tsc=reliable on the kernel's command line; the kernel's log says why it gave it up",
    )


def throttling(subject: Subject) -> Iterator[Row]:
    """Whether a real-time process that runs away leaves the machine anything."""
    folder = subject.root / "proc/sys/kernel"
    runtime, period = (
        int((folder / f"sched_rt_{name}_us").read_text()) for name in ("runtime", "period")
    )
    yield Row(
        name="real-time throttling",
        found="off" if runtime < 0 else f"at {100 * runtime / period:.0f} %",
        ok=runtime >= 0,
        remedy="sudo sysctl kernel.sched_rt_runtime_us=950000",
    )


def governor(subject: Subject) -> Iterator[Row]:
    """The cores' frequency, which takes its time to rise."""
    files = (subject.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    found = sorted({file.read_text().strip() for file in files})
    yield Row(
        name="frequency governor",
        found=", ".join(found) or "none here: firmware or a host sets the frequency",
        ok=found in ([], ["performance"]),
        remedy="sudo cpupower frequency-set --governor performance",
    )


def cores(subject: Subject) -> Iterator[Row]:
    """Whether control has a core, and has it to itself."""
    usable = scheduling(0).cpus
    isolated = _isolated(subject.root)
    core = divide(subject.realtime.cpu).control
    found = f"{len(usable)} usable, control's {core}"
    if core is None:
        found = f"{len(usable)} usable, none for control alone"
        remedy = "give it two cores or more, and set robot.realtime.cpu to last or a number"
    elif isolated and not isolated <= set(usable):
        # isolcpus takes a core out of everybody's mask, so that `last` means another one.
        every = f"0-{(os.cpu_count() or 1) - 1}"
        found += f", but {_text(isolated)} are isolated and out of reach"
        remedy = f"taskset -c {every} python -m rt.launch ..."
    else:
        found += " is isolated" if core in isolated else " is not isolated"
        others = _text({c for c in usable if c != core})
        remedy = f"on the kernel's command line: isolcpus={core} nohz_full={core} irqaffinity="
        remedy += f"{others}; then start it with taskset -c {_text(set(usable))}"
    yield Row(name="cores", found=found, ok=core in isolated, remedy=remedy)


def _isolated(root: Path) -> set[int]:
    """The kernel's own list, such as "2-3,6"."""
    file = root / "sys/devices/system/cpu/isolated"
    text = file.read_text().strip() if file.exists() else ""
    result: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        result |= set(range(int(first), int(last or first) + 1))
    return result


def _text(cpus: set[int]) -> str:
    return ",".join(map(str, sorted(cpus)))
