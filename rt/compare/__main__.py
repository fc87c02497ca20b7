"""`python -m rt.compare`: success and smoothness of every mode over the delay, simulated."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from rt.cli import bar, end_with_sentence, underscored
from rt.compare import report
from rt.compare.points import HORIZON, VARIANTS, Point, Result
from rt.compare.pool import run_all
from rt.config.words import nearest
from rt.errors import ConfigError

MAX_EPISODES = 4096


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rt.compare", description=__doc__)
    parser.add_argument("--episodes", default="1024", help="a point (default 1024)")
    parser.add_argument("--delays", default=f"0-{HORIZON // 2}", help="rows: 0-8, or 0,2,6")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--seed", default="0", help="of scenes, gusts and noise (default 0)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of compare.csv and .svg")
    return parser.parse_args(underscored(argv))


def points(options: argparse.Namespace) -> list[Point]:
    """What is to be run. Raises ConfigError."""
    episodes = _whole("--episodes", options.episodes, 1, MAX_EPISODES)
    seed = _whole("--seed", options.seed, 0, 1_000_000)
    variants = options.variants.split(",")
    for name in variants:
        if name not in VARIANTS:
            raise ConfigError(f"--variants: unknown variant {name!r}: {nearest(name, VARIANTS)}")
    delays = [delay for part in options.delays.split(",") for delay in _span(part)]
    return [
        Point(variant, delay, episodes, seed)
        for delay in sorted(set(delays))  # short delays plan more often: the longest work first
        for variant in VARIANTS
        if variant in variants
    ]


def _whole(flag: str, text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
        raise ConfigError(f"{flag}: expected a whole number from {low} to {high}, got {text!r}")
    return int(text)


def _span(part: str) -> range:
    ends = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part)
    first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
    if not first <= last <= HORIZON // 2:
        raise ConfigError(
            f"--delays: expected rows like 0-{HORIZON // 2} or 0,2,6, none above H/2 = "
            f"{HORIZON // 2}, got {part!r}"
        )
    return range(first, last + 1)


def show(done: int, total: int, started: float) -> None:
    """Redraw the progress bar."""
    text = f"{bar(done / total)} {done} of {total} points, {time.monotonic() - started:.0f} s"
    print(f"\r{text}", end="" if done < total else "\n", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    todo = points(options)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out: expected a folder to write to, but {options.out} cannot be made: "
            f"{error.strerror}"
        ) from None
    if not report.HAS_MATPLOTLIB:
        print(
            "no plot, only the CSV: matplotlib is not installed: pip install -e '.[viz]'",
            file=sys.stderr,
        )
    started, results = time.monotonic(), list[Result]()
    show(0, len(todo), started)
    for result in run_all(todo):
        results.append(result)
        show(len(results), len(todo), started)
    order = list(VARIANTS)
    results.sort(key=lambda result: (order.index(result.point.variant), result.point.delay))
    report.write_csv(results, options.out / "compare.csv")
    print(report.table(results))
    written = [options.out / "compare.csv"]
    if report.HAS_MATPLOTLIB:
        written.append(options.out / "compare.svg")
        report.plot(results, written[-1])
    print("wrote " + " and ".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
