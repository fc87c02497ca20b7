"""`python -m rt.replay`: what is in a recording, and what another policy or mode would have sent.

Without --policy, --mode and --delay_ms: a summary. With any of them the recorded observations go
through a policy, in a mode, and what is sent is compared. The states are recorded: they do not
react to it. With --to it is converted for other tools.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from rt.cli import end_with_sentence, printable, underscored
from rt.config.schema import Algorithm
from rt.config.words import nearest
from rt.errors import ConfigError
from rt.extras import need

if TYPE_CHECKING:
    from rt.record.reading import Recording

MAX_DELAY_MS = 10_000
REPLAYED = ("policy", "mode", "delay_ms", "plot")  # flags of what converts and mends nothing


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0; 2: a mistake."""
    args = _parse(underscored(argv))
    need("record", "a recording")
    convert = _converter(args)
    from rt.record.mending import mend  # only now that their packages are known to be there
    from rt.record.reading import Recording
    from rt.replay.summary import summary

    recording = Recording(args.file)
    if recording.problem:
        print(f"warning: {recording.problem}", file=sys.stderr)
    if args.mend is not None:
        given = [flag for flag in REPLAYED if getattr(args, flag)]
        if given:
            raise ConfigError(f"--mend: expected no --{given[0]} with it: mend first, then replay")
        print(f"wrote {mend(args.file, args.mend)} messages to {args.mend}")
        return 0
    if convert is not None:
        print(convert(recording))
        return 0
    if args.policy is not None or args.mode is not None or args.delay_ms is not None:
        _go_through(recording, args)
        return 0
    if args.plot is not None:
        from rt.dashboard.plot import plot

        plot(recording.config, recording.ticks, recording.chunks, args.plot)
    print(summary(recording))
    return 0


class Target(NamedTuple):
    """What --to converts to. flags: those that go with it."""

    module: str
    takes: str
    paths: tuple[int, ...]  # how many there may be
    flags: tuple[str, ...] = ()


TARGETS = {
    "lerobot": Target("rt.replay.lerobot", "DIR", (1,), ("images",)),
    "rerun": Target("rt.replay.rerun", "[FILE.rrd]", (0, 1)),
}


def _converter(args: argparse.Namespace) -> Callable[[Recording], str] | None:
    """What --to asks for; None: nothing."""
    if args.to is None:
        if args.images:
            raise ConfigError("--images: expected --to lerobot DIR with it, got none")
        return None
    name, *paths = args.to
    if name not in TARGETS:
        raise ConfigError(f"--to {name}: unknown target: {nearest(name, TARGETS)}")
    target = TARGETS[name]
    if len(paths) not in target.paths:
        got = " ".join(paths) or "nothing"
        raise ConfigError(f"--to {name}: expected {target.takes} after it, got {got}")
    for flag in (*REPLAYED, "mend", "images"):
        if getattr(args, flag) and flag not in target.flags:
            raise ConfigError(f"--to {name} converts what was recorded: expected no --{flag}")
    convert = import_module(target.module).convert
    options = {flag: getattr(args, flag) for flag in target.flags}
    return lambda recording: str(convert(recording, *map(Path, paths), **options))


def _go_through(recording: Recording, args: argparse.Namespace) -> None:
    from rt.infer.loader import build_policy, torch_device
    from rt.infer.process import open_normalizer
    from rt.replay.differences import table
    from rt.replay.through import replay, replay_config

    run = recording.config.run
    path = run.policy_yaml_path if args.policy is None else str(args.policy.absolute())
    delay_ms = None if args.delay_ms is None else _delay(args.delay_ms)
    config = replay_config(recording, path, _mode(args.mode or run.algorithm))
    policy = build_policy(path, map_location=torch_device())  # only who asks for one needs torch
    replayed = replay(recording, config, policy, open_normalizer(config), delay_ms)
    delay = "as recorded" if delay_ms is None else f"{delay_ms:g} ms"
    recorded_with = printable(run.policy_yaml_path)  # a stranger's file may say anything
    print(f"{args.file}, recorded with {recorded_with} in mode {run.algorithm}")
    print(f"replayed with {path} in mode {config.run.algorithm}, inference delay {delay}")
    print(
        "The states are recorded and do not react to what is sent here: the further the actions "
        "differ, the less this says of the robot. A policy that draws noise differs from itself, "
        "too; and an inference that was dead for a while is alive here."
    )
    recorded = recording.ticks, recording.chunks
    print(table(config, recorded, (replayed.ticks, replayed.chunks)))
    if replayed.refused:
        print(f"the policy gave {replayed.refused} chunks that would have been refused")
    if args.plot is not None:
        from rt.dashboard.plot import plot

        plot(config, replayed.ticks, replayed.chunks, args.plot)


def _mode(name: str) -> Algorithm:
    modes: tuple[Algorithm, ...] = get_args(Algorithm)
    for mode in modes:
        if mode == name:
            return mode
    raise ConfigError(f"--mode {name}: unknown mode: {nearest(name, modes)}")


def _delay(given: str) -> float:
    try:
        delay_ms = float(given)
    except ValueError:
        delay_ms = math.nan
    if not 0 <= delay_ms <= MAX_DELAY_MS:
        raise ConfigError(f"--delay_ms: expected a number from 0 to {MAX_DELAY_MS}, got {given!r}")
    return delay_ms


def _parse(argv: list[str]) -> argparse.Namespace:
    words, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m rt.replay", description=words, epilog=more)
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording, .mcap")
    parser.add_argument("--policy", type=Path, metavar="YAML", help="default: the recorded one")
    parser.add_argument(
        "--mode", help=f"of {', '.join(get_args(Algorithm))}; default: the recorded one"
    )
    parser.add_argument(
        "--delay_ms",
        metavar="N",
        help="from an observation's tick to its chunk; default: as recorded, of the nearest one",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw it: the recording, or what was replayed"
    )
    parser.add_argument("--mend", type=Path, metavar="OUT", help="write all that is whole to OUT")
    targets = " or ".join(f"{name} {target.takes}" for name, target in TARGETS.items())
    parser.add_argument(
        "--to", nargs="+", metavar=("TARGET", "PATH"), help=f"convert it: {targets}"
    )
    parser.add_argument(
        "--images", action="store_true", help="with --to lerobot: PNG in place of video"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
