"""The dashboard: `rt.inspect --watch`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.text import Text

from rt.cli import printable
from rt.dashboard import panels
from rt.dashboard.look import Look, Watched
from rt.session import Session

FEWEST_EVENTS = 3  # lines kept for them
FEWEST_PROCESSES = 4


class View:
    """A look as rich draws it, in as many lines as there are; without a limit when piped."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width, ascii_only = options.max_width, options.ascii_only
        for line in _lines(self._look, width, options.height, ascii_only):
            line.plain = printable(line.plain, ascii_only=ascii_only)
            line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
            yield line


def _lines(look: Look, width: int, height: int | None, ascii_only: bool) -> list[Text]:
    head = [panels.session(look)]
    body = [
        panels.jitter(look, ascii_only),
        panels.chunk(look, width, ascii_only),
        panels.holds(look, width) + panels.sensors(look, width),
    ]
    height = height or sys.maxsize
    room = height - FEWEST_EVENTS - sum(map(len, head + body))
    blocks = [*head, panels.processes(look, max(FEWEST_PROCESSES, room)), *body]
    room = height - sum(map(len, blocks))
    if room - len(blocks) >= FEWEST_EVENTS:  # else: no blank lines between them
        blocks = [[*block, Text()] for block in blocks]
        room -= len(blocks)
    return [line for block in blocks for line in block] + panels.events(look, room)


def watch(session: Session, interval_s: float) -> int:
    """Show the session every `interval_s` seconds until Ctrl-C or its end, and say which. Returns
    the exit code. In a terminal it is one picture that changes; elsewhere one below the other.

    Raises NoSessionError when the session is just starting or ending.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    with Watched(session, interval_s) as watched:
        goes_on = watched.follow(0)
        try:
            with _showing(console) as show:
                show(watched.look())
                while goes_on:
                    goes_on = watched.follow(interval_s)
                    show(watched.look())
        except KeyboardInterrupt:
            sentence = f"no longer watched: session {session.name!r} goes on"
        else:
            sentence = watched.look().end
    console.print(printable(sentence, ascii_only=console.options.ascii_only), soft_wrap=True)
    return 0


@contextmanager
def _showing(console: Console) -> Iterator[Callable[[Look], None]]:
    if not (console.is_interactive and sys.stdout.isatty()):
        yield lambda look: console.print(View(look), Text())
        return
    # Who is killed leaves the terminal without its prompt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Live(console=console, screen=True, auto_refresh=False) as live:  # without a thread
        yield lambda look: live.update(View(look), refresh=True)
