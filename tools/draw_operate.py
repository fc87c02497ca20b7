"""Draw the pictures of docs/operate.md from one real run, and print what its recording comes to.

`python tools/draw_operate.py` (needs the extras [sim,viz,record,web] and a headless browser; takes
about a minute). Inference is 200 ms slower than it could be and once stands still for six
seconds, so that there is something to be seen.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from rich.console import Console

from rt.cli import end_with_sentence
from rt.dashboard.look import Look, Watched
from rt.dashboard.watch import View
from rt.errors import MissingPackageError, SessionError
from rt.extras import need
from rt.session import Session

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # whose browser and launches these are

DOCS = ROOT / "docs"
SESSION = "igris_b_shown"
STILL_S, AFTER_S = 6.0, 8.0  # inference stands still for longer than its chunk, and goes on again
COLUMNS, LINES = 80, 32
SPAN_S = 0.5  # of a bar in the dashboard's jitter
FONT_FACE = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # from the network: left out
PAGE = (
    "plots.length === 24 && times.length > 150 && document.images[2].naturalWidth"
    " && document.querySelectorAll('#chunk .executed').length > 3"
    " && document.querySelectorAll('#chunk .weighted').length > 3"
)


def needed_browser() -> str:
    """Its program. Raises MissingPackageError, in a sentence, if anything is missing."""
    for extra in ("sim", "viz", "record", "web"):
        need(extra, "a picture of docs/operate.md")
    from browser import find_browser

    program = find_browser()
    if program is None:
        raise MissingPackageError(
            "the page's picture needs a headless browser: apt-get install chromium-headless-shell, "
            "or name one with RT_BROWSER=/path"
        )
    return program


def main() -> int:
    browser = needed_browser()
    from launched import Launched

    with tempfile.TemporaryDirectory(prefix="runs-") as folder:
        flags = ("--record", folder, "--inject_delay_ms", "200")
        with Launched(SESSION, *flags, session=SESSION) as run:
            run.when_chunks(5)
            with Watched(Session(SESSION), SPAN_S) as watched:
                inference = run.pid("inference")
                telling(watched)
                os.kill(inference, signal.SIGSTOP)
                watched.follow(STILL_S)
                os.kill(inference, signal.SIGCONT)
                watched.follow(AFTER_S)
                draw_dashboard(telling(watched), DOCS / "operate_watch.svg")
            draw_page(browser, DOCS / "operate_web.png")
            ask(
                "rt.inspect", "--session", SESSION, "--plot", DOCS / "operate_plot.png", "--last=20"
            )
            if run.stop():
                raise SessionError(f"the run has failed: {run.output}")
        for recording in Path(folder).glob("*.mcap"):
            ask("rt.replay", recording)
            ask("rt.replay", recording, "--mode=naive", "--plot", DOCS / "operate_replay.png")
    return 0


def telling(watched: Watched) -> Look:
    """When a chunk has rows of every kind: a few are executed, and some are tied to the last one's.

    Raises SessionError when the session ends before.
    """
    while watched.follow(0.05):
        look = watched.look()
        chunk = look.snapshot["chunk"]
        if len(look.executed) > 3 and any(chunk["weights"][max(look.executed) + 3 :]):
            return look
    raise SessionError(f"session {SESSION!r} has ended before it was drawn")


def draw_dashboard(look: Look, path: Path) -> None:
    """As a terminal of 80 columns shows it."""
    terminal = Console(
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        width=COLUMNS,
        color_system="standard",
        no_color=False,
    )
    terminal.print(View(look), height=LINES)
    drawn = terminal.export_svg(title="python -m rt.inspect --watch")
    path.write_text(FONT_FACE.sub("", drawn))


def draw_page(program: str, path: Path) -> None:
    """As a browser shows it."""
    from browser import Browser
    from web_view import viewing

    with (
        tempfile.TemporaryDirectory() as folder,
        viewing(SESSION) as view,
        closing(Browser(program, Path(folder))) as browser,
    ):
        browser.open(view.url)
        browser.until(PAGE)
        browser.picture(path)


def ask(module: str, *arguments: object) -> None:
    """Run one of our programs, and print what it says."""
    from launched import run_module

    ended = run_module(module, *map(str, arguments))
    if ended.returncode:
        raise SessionError(f"{module}: {ended.stderr}")
    print(ended.stdout)


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
