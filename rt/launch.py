"""`python -m rt.launch --robot NAME`: run a robot with a policy.

Ctrl-C is a flag from the first line on, so that it ends a run in order at any moment; only then
come the imports that take time.
"""

from __future__ import annotations

import sys

from rt.launcher.interrupt import Interrupt


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0: ended in order; 2: a mistake, told in one sentence."""
    interrupt = Interrupt()
    from rt.cli import end_with_sentence
    from rt.launcher.run import launch

    return end_with_sentence(lambda: launch(argv, interrupt))


if __name__ == "__main__":
    sys.exit(main())
