"""When the supervisor gives a child up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from launched import unique_session

from rt.launcher import children
from rt.launcher.children import RESTARTS, STEADY_S, Child
from rt.records import STATUS
from rt.session import Session

ENDS_AT_ONCE = "colorsys"  # a module with nothing to run


class Told:
    """A child whose life is told by its test: its clock, and what it says."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(children.time, "monotonic", lambda: self.now)
        self._ring = session.writer("status.x")
        self._record = self._ring.buffer()
        self.child = Child(session, "x", ENDS_AT_ONCE)
        self.child.spawn()

    def says(self, state: str, after_s: float) -> None:
        """It says `state`, and the supervisor sees it so for `after_s`."""
        self._record["pid"], self._record["state"] = self.child.pid, state.encode()
        self._ring.write(self._record)
        self.child.note_running()
        self.now += after_s
        self.child.note_running()

    def restarts(self) -> bool:
        """It dies; whether it is started again."""
        assert self.child._process is not None
        self.child._process.wait()
        if self.child.beyond_repair:
            return False
        self.child.restart_when_due()
        self.now += 1000.0
        assert self.child.restart_when_due()
        return True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    session = Session(unique_session("child"))
    session.create({"status.x": (STATUS, 4)})
    told = Told(session, monkeypatch)
    yield told
    told.child.kill()
    session.clean()


def test_a_child_that_never_became_ready_is_not_started_again(told: Told) -> None:
    told.says("failed", after_s=0)
    assert not told.restarts()


@pytest.mark.parametrize("load_s", [1.0, 10 * STEADY_S])
@pytest.mark.parametrize("last_words", ["failed", "ready"])
def test_a_child_that_dies_again_and_again_is_given_up_however_long_it_loads(
    told: Told, load_s: float, last_words: str
) -> None:
    told.says("ready", after_s=0)
    for _ in range(RESTARTS):
        assert told.restarts()
        told.says("loading", after_s=load_s)
        told.says(last_words, after_s=1.0)
    assert not told.restarts()


def test_a_child_that_ran_for_a_while_may_be_started_as_often_again(told: Told) -> None:
    for _ in range(3 * RESTARTS):
        told.says("ready", after_s=STEADY_S + 1)
        assert told.restarts()
