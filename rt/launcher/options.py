"""The command line of `rt.launch`."""

from __future__ import annotations

import argparse
from typing import get_args

from rt.cli import underscored
from rt.config.schema import Algorithm


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Every flag is accepted with - and with _."""
    parser = argparse.ArgumentParser(
        prog="python -m rt.launch", description="Run a robot with an action-chunking policy."
    )
    parser.add_argument(
        "--robot", required=True, help="a folder of configs/robots, or a path to one"
    )
    parser.add_argument(
        "--inference_algorithm",
        choices=get_args(Algorithm),
        help="how a new chunk joins the old one: rtc (default), or what it is compared with; "
        "sequential waits for each chunk, in one process, for a debugger",
    )
    parser.add_argument("-P", "--policy_yaml_path", help="default: the robot's own")
    parser.add_argument("--inference_runtime_params_config", metavar="JSON")
    parser.add_argument("--inference_runtime_topics_config", metavar="JSON")
    parser.add_argument(
        "--io",
        help="sim, dds, ros2 or what else its driver has (default: robot.yaml's); a real one moves "
        "only if named",
    )
    parser.add_argument("--session", metavar="NAME", help="default: the robot's name")
    parser.add_argument(
        "--duration",
        type=float,
        metavar="SECONDS",
        help="then stop; counted from when control runs",
    )
    parser.add_argument(
        "--inject_delay_ms", type=int, default=0, metavar="N", help="make inference slower by N ms"
    )
    parser.add_argument(
        "--yes", action="store_true", help="move a real robot without waiting for rt.command go"
    )
    parser.add_argument("--dry_run", action="store_true", help="compute, command nothing")
    parser.add_argument(
        "--require_rt", action="store_true", help="refuse to run without every real-time right"
    )
    parser.add_argument("--record", metavar="DIR", help="record the session there, as MCAP")
    parser.add_argument(
        "--log_format", choices=("human", "json"), default="human", help="json: one object a line"
    )
    parser.add_argument(
        "--metrics_port", type=int, default=0, metavar="N", help="serve Prometheus metrics there"
    )
    parser.add_argument(
        "--metrics_host",
        default="127.0.0.1",
        metavar="HOST",
        help="whoever reaches it may read; default: this machine alone",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="any config value, e.g. HZ=10 or robot.realtime.spin_us=60; repeatable",
    )
    return parser.parse_args(underscored(argv))
