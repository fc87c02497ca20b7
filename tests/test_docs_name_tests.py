"""Each test that a page names exists, so that no promise points at nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests", "chaos", "bench")
FILES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("test_*.py")]
NAMED = re.compile(
    r"`(?:((?:(?:tests|chaos|bench)/(?:\w+/)*)?test_\w+\.py)(?:::(\w+))?|(::)?(test_\w+))`"
)


def defined(source: str, name: str) -> bool:
    return f"def {name}(" in source


def missing(text: str) -> list[str]:
    """What `text` names in backquotes and is nowhere to be found: `tests/test_x.py`,
    `test_x.py::test_y`, after it in the same line `::test_z` of the same file, or `test_y`."""
    absent = []
    for line in text.splitlines():
        last = ""
        for file, name, again, alone in NAMED.findall(line):
            last = file or last
            where, what = (last, alone) if again else (file, name or alone)
            places = [path for path in FILES if path.match(where or "*.py")]
            if not any(not what or defined(path.read_text(), what) for path in places):
                absent.append("::".join(filter(None, (where, what))))
    return absent


@pytest.mark.parametrize("page", ["protocol.md", "safety.md", "architecture.md"])
def test_each_test_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert missing(text) == []


@pytest.mark.parametrize("page", ["protocol.md", "safety.md"])
def test_each_promise_names_a_test_and_not_a_file_alone(page: str) -> None:
    rows = [row for row in (ROOT / "docs" / page).read_text().splitlines() if row.startswith("|")]
    named = [found for row in rows if (found := NAMED.findall(row))]
    assert len(named) > 5
    assert [found for found in named if not any(name or alone for _, name, _, alone in found)] == []


def test_a_name_that_is_nowhere_is_found_out() -> None:
    text = (
        "`tests/test_ring.py` `test_ring.py::test_a_closed_ring_says_so` `test_reads.py` "
        "`chaos/rings/test_reads.py` `chaos/test_reads.py` `chaos/rings/test_ring.py` "
        "`test_nowhere.py` `tests/test_ring.py::test_gone` `test_a_closed_ring_says_so` "
        "`test_lost`\n"
        "`tests/test_ring.py` `::test_a_closed_ring_says_so` `::test_launch_inspect_stop`"
    )
    assert missing(text) == [
        "chaos/test_reads.py",
        "chaos/rings/test_ring.py",
        "test_nowhere.py",
        "tests/test_ring.py::test_gone",
        "test_lost",
        "tests/test_ring.py::test_launch_inspect_stop",
    ]
