"""Each test that a page names exists, so that no promise points at nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests", "chaos", "bench")
FILES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("test_*.py")]
FILE = re.compile(r"`((?:(?:tests|chaos|bench)/(?:\w+/)*)?test_\w+\.py)(?:::(\w+))?`")
ALONE = re.compile(r"`(?:::)?(test_\w+)`")


def defined(source: str, name: str) -> bool:
    return f"def {name}(" in source


def missing(text: str) -> list[str]:
    """What `text` names in backquotes, `tests/test_x.py`, `test_x.py::test_y` or `test_y`, and
    is nowhere to be found."""
    absent = []
    for file, name in FILE.findall(text):
        places = [ROOT / file] if "/" in file else [path for path in FILES if path.name == file]
        sources = [path.read_text() for path in places if path in FILES]
        if not any(not name or defined(source, name) for source in sources):
            absent.append(f"{file}::{name}" if name else file)
    everything = "".join(path.read_text() for path in FILES)
    return absent + [name for name in ALONE.findall(text) if not defined(everything, name)]


@pytest.mark.parametrize("page", ["protocol.md", "safety.md", "architecture.md"])
def test_each_test_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert missing(text) == []


@pytest.mark.parametrize("page", ["protocol.md", "safety.md"])
def test_the_pages_of_promises_name_tests(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert len(FILE.findall(text)) > 5


def test_a_name_that_is_nowhere_is_found_out() -> None:
    text = (
        "`tests/test_ring.py` `test_ring.py::test_a_closed_ring_says_so` `test_reads.py` "
        "`chaos/rings/test_reads.py` `chaos/test_reads.py` `chaos/rings/test_ring.py` "
        "`test_nowhere.py` `tests/test_ring.py::test_gone` `test_a_closed_ring_says_so` `test_lost`"
    )
    assert missing(text) == [
        "chaos/test_reads.py",
        "chaos/rings/test_ring.py",
        "test_nowhere.py",
        "tests/test_ring.py::test_gone",
        "test_lost",
    ]
