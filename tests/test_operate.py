"""docs/operate.md names what there is: flags, topics, metrics, events and pictures."""

from __future__ import annotations

import re

import pytest
from launched import ROOT, run_module
from shown_session import Shown

from rt.record import messages
from rt.records import Hold
from rt.testing import config

PAGE = (ROOT / "docs" / "operate.md").read_text()
COMMAND = re.compile(r"python -m (rt\.\w+)(.*)")
WHERE_EVENTS_ARE_MADE = ("rt/events.py", "rt/launcher/log.py", "rt/launcher/supervisor.py")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def flags(text: str) -> dict[str, set[str]]:
    """By module whose command is in a block of `text`, the flags that it is given."""
    given: dict[str, set[str]] = {}
    for module, arguments in COMMAND.findall("\n".join(blocks(text))):
        given.setdefault(module, set()).update(re.findall(r" (--\w+)", arguments.split(" #")[0]))
    return given


def rows(heading: str) -> list[str]:
    """The first column of the table below a heading of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| (.+?) \|", section, re.MULTILINE)


@pytest.mark.parametrize(("module", "given"), flags(PAGE).items())
def test_each_command_takes_its_flags(module: str, given: set[str]) -> None:
    told = run_module(module, "--help")
    assert told.returncode == 0, told.stderr
    assert given <= set(re.findall(r"--\w+", told.stdout))


def test_each_topic_of_a_recording_is_named_and_no_other() -> None:
    named = {topic for row in rows("Record it") for topic in re.findall(r"`(/.+?)`", row)}
    constants = {name: str(value) for name, value in vars(messages).items() if name.isupper()}
    found = {value for value in constants.values() if value.startswith("/")}
    assert named == found - {messages.IMAGES} | {f"{messages.IMAGES}CAMERA"}


def test_each_metric_and_each_reason_exists() -> None:
    prometheus = pytest.importorskip("prometheus_client", reason="without the extra [metrics]")
    from rt.metrics.figures import Figures

    with Shown(config()) as shown:
        figures = Figures(shown.session, shown.config, lambda: {"inference": 0})
        shown.publish("tick", tick=1, t_state=shown.now_ns)
        told = prometheus.generate_latest(figures).decode()
        figures.close()
    # A family is named by its help, a counter of it by its samples too.
    exist = set(re.findall(r"\brt_\w+", told))
    named = set(re.findall(r"\brt_\w+", PAGE))
    assert len(named) > 10
    assert named <= exist
    reasons = re.findall(r'rt_held_ticks_total\{reason\W+(.*?)"', PAGE)
    assert {r for of in reasons for r in of.split("|")} <= {hold.name.lower() for hold in Hold}
    assert reasons


def test_each_event_exists() -> None:
    named = {event for row in rows("Logs") for event in re.findall(r"`(\w+)`", row)} - {"event"}
    source = "".join((ROOT / path).read_text() for path in WHERE_EVENTS_ARE_MADE)
    assert len(named) > 10
    assert {event for event in named if f'"{event}"' not in source} == set()


def test_each_picture_is_there_and_shown() -> None:
    shown = set(re.findall(r"!\[.+?\]\((.+?)\)", PAGE))
    assert shown == {path.name for path in (ROOT / "docs").glob("operate_*")}
