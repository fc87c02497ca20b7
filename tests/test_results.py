"""What is kept of a run, and the page that is written from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import results
from results import Outcome, Page

PAGE = Page(
    *("page", "# Page", ("a", "b", "many")),
    lambda name, found: f"## {name}\n\n{found['n']} of them.",
    gathered=("many",),
)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "DOCS", tmp_path)
    return tmp_path / "page.md"


def run(monkeypatch: pytest.MonkeyPatch, docs: Path, measured: object, outcome: Outcome) -> str:
    """The page after a run."""
    monkeypatch.setattr(results, "SECTIONS", measured)
    PAGE.save(outcome, "commit c")
    PAGE.write()
    return docs.read_text()


def test_a_section_stays_until_it_is_measured_again(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, docs, {"a": {"n": 1}, "b": {"n": 2}}, Outcome([], [], {}))
    text = run(monkeypatch, docs, {"b": {"n": 3}}, Outcome([], [], {}))
    assert "1 of them." in text
    assert "3 of them." in text
    assert "2 of them." not in text
    assert text.count("commit c") == 2


def test_a_failure_stays_until_the_test_passes(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = {"t_skipped": "no compiler"}
    text = run(monkeypatch, docs, {"a": {}}, Outcome(["t_good"], ["t_bad"], skipped))
    for _ in range(2):
        assert "- `t_bad` (" in text
        assert "- `t_skipped` (no compiler)" in text
        assert "t_good" not in text
        assert "**Not measured in full:** 'n' is missing" in text
        text = run(monkeypatch, docs, {}, Outcome(["t_good"], [], {}))
    text = run(monkeypatch, docs, {"a": {"n": 1}}, Outcome(["t_bad", "t_skipped"], [], {}))
    assert "t_bad" not in text
    assert "t_skipped" not in text


def test_a_section_that_several_files_fill_keeps_what_was_not_measured_again(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(measured: object, commit: str) -> str:
        monkeypatch.setattr(results, "SECTIONS", measured)
        PAGE.save(Outcome([], [], {}), commit)
        PAGE.write()
        return docs.read_text()

    after({"many": {"n": 1, "m": 1}}, "commit 1")
    text = after({"many": {"n": 2}}, "commit 2")
    assert "2 of them." in text
    assert "commit 2 (the rest: " in text
    assert "commit 1)" in text
    text = after({"many": {"n": 3}}, "commit 3")
    assert "3 of them." in text
    assert "commit 1" in text, "whose m still is"
    assert "the rest" not in after({"many": {"n": 4, "m": 4}}, "commit 4")
