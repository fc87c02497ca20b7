"""The command line of the fake robot."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rt import clock
from rt.cli import underscored
from rt.config import Config
from rt.config.check import session_name_problem
from rt.config.load import load_config
from rt.config.schema import MAX_DOMAIN
from rt.config.words import nearest
from rt.errors import ConfigError
from rt.launcher import options
from rt.launcher.interrupt import Interrupt
from rt.launcher.log import HumanLog
from rt.robots.fake.faults import FAULTS
from rt.robots.fake.presence import fake_name, give_fault
from rt.robots.fake.report import Report
from rt.robots.robot import find_backend

if TYPE_CHECKING:
    from rt.robots.fake.stage import Role

ROBOTS = {
    "igris_b": ("dds", "sim"),
    "igris_c": ("dds",),
}  # and the backends whose packages it needs
MAX_RATE_HZ = 1000.0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Every flag is accepted with - and with _."""
    parser = argparse.ArgumentParser(
        prog="python -m rt.robots.fake", description="Play a real robot on DDS."
    )
    parser.add_argument("--robot", default="igris_b", help=f"{' or '.join(ROBOTS)}")
    parser.add_argument("--robot_id", help="default: the topics file's")
    parser.add_argument("--domain", type=int, metavar="N", help="default: ROS_DOMAIN_ID, else 0")
    parser.add_argument("--rate", type=float, metavar="HZ", help="of its states")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of its scenes")
    parser.add_argument(
        "--network", action="store_true", help="speak on the network, not on loopback alone"
    )
    parser.add_argument("--inference_runtime_topics_config", metavar="JSON")
    parser.add_argument("--report", type=Path, metavar="JSON", help="written at the end")
    parser.add_argument(
        "--fault",
        metavar="'NAME SECONDS [WHERE]'",
        help="have the one that runs begin with a fault",
    )
    parser.add_argument("--list_faults", action="store_true")
    return parser.parse_args(underscored(argv))


def run(argv: list[str] | None, interrupt: Interrupt) -> int:
    """The whole command, and its exit code. Raises RtError for a mistake, told in a sentence."""
    arguments = parse(argv)
    if arguments.list_faults:
        for name, what in FAULTS.items():
            print(f"{name:<8} {what}")
        return 0
    config = load(arguments)
    if arguments.fault is not None:
        who = config.robot.name, config.topics.robot_id, config.run.domain
        fault = give_fault(*who, arguments.fault)
        where = f" on {fault.where}" if fault.where else ""
        print(f"{fault.name} {fault.seconds:g} s{where}: begun")
        return 0
    perform(config, arguments, interrupt)
    return 0


def load(arguments: argparse.Namespace) -> Config:
    """The configuration that a launch against this fake has, too."""
    robot, domain, rate = arguments.robot, arguments.domain, arguments.rate
    if robot not in ROBOTS:
        raise ConfigError(f"--robot {robot}: cannot be played: {nearest(robot, ROBOTS)}")
    if domain is not None and not 0 <= domain <= MAX_DOMAIN:
        raise ConfigError(f"--domain: expected a number from 0 to {MAX_DOMAIN}, got {domain}")
    if rate is not None and not 0 < rate <= MAX_RATE_HZ:
        raise ConfigError(f"--rate: expected Hz > 0 and <= {MAX_RATE_HZ:g}, got {rate:g}")
    if arguments.report is not None and not arguments.report.parent.is_dir():
        raise ConfigError(f"--report {arguments.report}: expected a file in a folder that exists")
    words = ["--robot", robot, "--io", "dds", "--set", f"run.sim_seed={arguments.seed}"]
    if arguments.robot_id is not None:
        words += ["--set", f"topics.robot_id={arguments.robot_id}"]
    if domain is not None:
        words += ["--set", f"run.domain={domain}"]
    if arguments.inference_runtime_topics_config is not None:
        words += ["--inference_runtime_topics_config", arguments.inference_runtime_topics_config]
    config = load_config(options.parse(words)).config
    name = fake_name(robot, config.topics.robot_id, config.run.domain)
    if session_name_problem(name):
        raise ConfigError(f"--robot_id: expected a shorter one, got one that makes {name!r}")
    for io in ROBOTS[robot]:
        find_backend(
            msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, io=io))
        )
    return config


def perform(config: Config, arguments: argparse.Namespace, interrupt: Interrupt) -> None:
    """Play until interrupted."""
    # Imported only now that what they need is known to be there.
    from rt.robots.fake.process import staged

    role: Role = importlib.import_module(f"rt.robots.fake.{config.robot.name}").ROLE
    rate_hz = arguments.rate or role.rate_hz
    loopback = not arguments.network
    log, pace = HumanLog(), Pace()
    with staged(config, role, loopback=loopback) as play:
        report = play.presence.report
        where = "on loopback alone" if loopback else "on the network"
        log.say(
            f"fake {config.robot.name} {config.topics.robot_id}: states at {rate_hz:g} Hz, DDS "
            f"domain {config.run.domain} {where}; Ctrl-C ends it"
        )

        def look() -> bool:
            now = clock.now_ns()
            line = status_line(report, pace.look(report.commands, now), now)
            log.show(line)
            return not interrupt

        play.run(rate_hz, look)
    log.end()
    log.say(summary(report))
    if arguments.report is not None:
        arguments.report.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


class Pace:
    """How many a second, over the last second."""

    def __init__(self) -> None:
        self._since = 0, 0  # ns, and how many there were
        self._per_s = 0.0

    def look(self, count: int, now_ns: int) -> float:
        """`count` so far."""
        t_ns, before = self._since
        if now_ns - t_ns >= clock.NS_PER_S:
            self._per_s = (count - before) * clock.NS_PER_S / (now_ns - t_ns)
            self._since = now_ns, count
        return self._per_s


def status_line(report: Report, per_s: float, now_ns: int) -> str:
    """How many commands come and when, what was reached, what is wrong."""
    last = f"{(now_ns - report.t_last) / 1e6:.0f} ms ago" if report.t_last else "none yet"
    parts = [
        f"commands {report.commands}",
        f"{per_s:.1f} Hz",
        f"last {last}",
        *([f"reached {report.reached} of {report.scenes}"] if report.scenes else []),
        *report.faults,
    ]
    return " | ".join(parts)


def summary(report: Report) -> str:
    """What a run came to."""
    streams = "; ".join(
        f"{topic} {stream.commands}, largest step {stream.largest_step_deg:.2f} deg"
        + (f", {stream.refused} refused" if stream.refused else "")
        for topic, stream in report.streams.items()
    )
    reached = f"; reached {report.reached} of {report.scenes} scenes" if report.scenes else ""
    return f"commands: {streams}{reached}"
