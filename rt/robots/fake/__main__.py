"""`python -m rt.robots.fake --robot NAME`: play a real robot on DDS, on loopback by default."""

from __future__ import annotations

import sys

from rt.launcher.interrupt import Interrupt


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0: ended in order; 2: a mistake, told in one sentence."""
    interrupt = Interrupt()
    from rt.cli import end_with_sentence
    from rt.robots.fake.run import run

    return end_with_sentence(lambda: run(argv, interrupt))


if __name__ == "__main__":
    sys.exit(main())
