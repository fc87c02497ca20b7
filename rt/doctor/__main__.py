"""`python -m rt.doctor [--robot NAME]`: look at everything a robot needs of this machine.

Required is what rt.launch cannot do without; advised is what makes it better.
"""

from __future__ import annotations

import argparse
import os
import sys

import msgspec

from rt.cli import end_with_sentence, underscored
from rt.config.load import load_config
from rt.doctor import kernel, rights, ros, session, software
from rt.doctor.row import Check, Row, Subject, rows_of
from rt.launcher.options import parse
from rt.launcher.prepare import with_fake

CHECKS: tuple[Check, ...] = (
    session.launch,
    session.shared_memory,
    session.cameras,
    session.leftovers,
    session.logout,
    software.python,
    software.memory_fences,
    software.extras,
    software.gpu,
    rights.limits,
    rights.granted,
    kernel.kernel,
    kernel.cores,
    kernel.governor,
    kernel.throttling,
    kernel.clock_source,
    ros.ros_2,
    ros.rmw_implementation,
    ros.ros_domain_id,
    ros.cyclonedds_uri,
)


def examine(subject: Subject) -> list[Row]:
    """Every check's rows."""
    return [row for check in CHECKS for row in rows_of(check, subject)]


def render(rows: list[Row]) -> str:
    """The rows for a reader."""
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        mark = "ok" if row.ok else "MISSING" if row.required else "advised"
        lines.append(f"{mark:<8} {row.name:<{width}}  {row.found}")
        if not row.ok and row.remedy:
            lines.append(f"{'':<{9 + width}}  -> {row.remedy}")
    missing = [row.name for row in rows if not row.ok and row.required]
    advised = sum(not row.ok and not row.required for row in rows)
    lines += ["", f"required and missing: {', '.join(missing) or 'nothing'}; advised: {advised}"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0; 1: something required is missing; 2: a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m rt.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Every other flag is rt.launch's, for the run that is meant: --robot, --io, -P, "
        "--set...\nWithout --robot, only the machine is looked at.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument(
        "--require_rt", action="store_true", help="real-time rights are required, not advised"
    )
    args, launch_argv = parser.parse_known_args(underscored(argv))
    env = dict(os.environ)
    if any(not row.ok and row.required for row in ros.ros_domain_id(Subject(None, env))):
        del os.environ["ROS_DOMAIN_ID"]  # a row here, where it would end rt.launch
    config = with_fake(load_config(parse(launch_argv)).config) if launch_argv else None
    rows = examine(Subject(config, env, require_rt=args.require_rt))
    print(msgspec.json.encode(rows).decode() if args.json else render(rows))
    return int(any(not row.ok and row.required for row in rows))


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
