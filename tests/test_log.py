"""The log: each event once, for people and as JSON; a flood can still be read."""

from __future__ import annotations

import datetime
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launched import segments, unique_session, until
from making import MakeRing, Simulate

from rt import clock
from rt.config import Config
from rt.errors import RtError
from rt.events import Event, Events
from rt.launcher.board import SHOW_EVERY, Board
from rt.launcher.log import FLOOD, HumanLog, JsonLog, Log
from rt.launcher.run import launch
from rt.launcher.supervisor import MODULES, Supervisor
from rt.records import STATUS, Hold
from rt.testing import SimulatedRun, config

Capture = pytest.CaptureFixture[str]
# What a recording does from its first status on.
RECORDS = """
import signal, sys
from rt import child
from rt.errors import SessionError

def run(session, status):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    status.write("running")
    signal.sigwait([signal.SIGTERM])
    {end}

sys.exit(child.start(run, on_orphaned=signal.SIGKILL))
"""


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def eventful(run: SimulatedRun, make_ring: MakeRing) -> list[list[Event]]:
    """By look what happens in a run with a late chunk, holds, a refused chunk and a restart."""
    inference = make_ring(STATUS)
    status = inference.buffer()
    status["pid"], status["heartbeat"] = 1, run.clock.now_ns()
    events = Events(run._session.reader("chunk"), inference, run.config.params.ticks_per_row)
    looks = []
    for k in range(24):
        run.robot.reading = "none" if k == 15 else "fresh"
        if k == 20:
            status["dropped"], status["detail"] = 1, b"the policy gave a chunk that is not finite"
        inference.write(status)
        run.tick(5)
        looks.append(events.of(np.array(run.ticks[-5:], run.ticks[0].dtype)))
    return looks


@pytest.mark.parametrize("make", [HumanLog, JsonLog])
def test_each_event_appears_once_with_its_tick_and_reason(
    simulate: Simulate, make_ring: MakeRing, capsys: Capture, make: type[Log]
) -> None:
    run = simulate(config(min_num_actions_executed=4), delay=lambda n: {5: 6.5, 8: 9.5}.get(n, 2.5))
    log, looks = make(), eventful(run, make_ring)
    restart = Event(clock.now_ns(), 77, "restart", "inference (pid 1) died; restarted")
    log.tell(restart)
    for events in looks:
        log.tell_all(events)
    expected = [restart, *(event for events in looks for event in events)]
    kinds = {event.kind for event in expected}
    assert kinds >= {"hold", "resumed", "late_chunk", "expired_chunk", "refused_chunk", "restart"}
    printed = capsys.readouterr().out
    if make is HumanLog:
        assert printed.splitlines() == [f"tick {e.tick}: {e.words}" for e in expected]
        return
    lines = json_lines(printed)
    assert [line["tick"] for line in lines] == [event.tick for event in expected]
    assert [line["words"] for line in lines] == [event.words for event in expected]
    reasons = [line["reason"] for line in lines if line["event"] in ("hold", "refused_chunk")]
    assert {Hold.NO_STATE.name, "the policy gave a chunk that is not finite"} <= set(reasons)
    assert all(reasons)


def test_words_of_several_lines_are_one_and_drive_no_terminal(capsys: Capture) -> None:
    words = "inference refused 1 chunk: a\nlong story\x1b[2J"
    HumanLog().tell_all([Event(0, 5, "refused_chunk", words)])
    expected = "tick 5: inference refused 1 chunk: a?long story?[2J\n"
    assert capsys.readouterr().out == expected


def flood(count: int) -> list[Event]:
    """`count` holds, each ended a tick later; in their middle a chunk that came late."""
    events = []
    for k in range(0, 2 * count, 2):
        events.append(Event(k, k, "hold", "hold expired", "EXPIRED"))
        events.append(Event(k, k + 1, "resumed", "executes again, after 1 tick of hold"))
    events.insert(count, Event(count, count, "late_chunk", "chunk 3 came late"))
    return events


def test_a_flood_is_counted_for_people_and_hides_nothing_else(capsys: Capture) -> None:
    HumanLog().tell_all(flood(125))
    assert capsys.readouterr().out.splitlines() == [
        "tick 125: chunk 3 came late",
        "tick 248: hold expired (the last of 125 since tick 0)",
        "tick 249: executes again, after 1 tick of hold (the last of 125 since tick 1)",
    ]
    HumanLog().tell_all(flood(FLOOD))
    assert len(capsys.readouterr().out.splitlines()) == 2 * FLOOD + 1


def test_floods_of_different_reasons_are_counted_apart(capsys: Capture) -> None:
    other = [Event(k, k, "hold", "hold starved", "STARVED") for k in range(FLOOD + 1)]
    HumanLog().tell_all(flood(125) + other)
    assert "hold starved (the last of 6 since tick 0)" in capsys.readouterr().out


def test_as_json_a_flood_is_told_whole(capsys: Capture) -> None:
    JsonLog().tell_all(flood(125))
    assert len(json_lines(capsys.readouterr().out)) == 251


def test_a_json_line_has_the_time_at_which_it_happened(capsys: Capture) -> None:
    JsonLog().tell(Event(clock.now_ns() - 3600 * 10**9, 4, "hold", "hold expired", "EXPIRED"))
    (line,) = json_lines(capsys.readouterr().out)
    then = datetime.datetime.fromisoformat(line.pop("time"))
    assert abs(then.timestamp() - (time.time() - 3600)) < 1800
    assert then.utcoffset() == datetime.timedelta(0)
    assert line.pop("t_ns") < clock.now_ns()
    assert line == {"tick": 4, "event": "hold", "words": "hold expired", "reason": "EXPIRED"}


def test_what_has_no_tick_or_no_reason_says_none(capsys: Capture) -> None:
    JsonLog().tell(Event(clock.now_ns(), -1, "killed", "inference has not beaten"))
    (line,) = json_lines(capsys.readouterr().out)
    assert line.keys() == {"time", "t_ns", "event", "words"}
    HumanLog().tell(Event(0, -1, "killed", "inference has not beaten"))
    assert capsys.readouterr().out == "inference has not beaten\n"


def test_as_json_every_line_is_json_whatever_is_said(capsys: Capture) -> None:
    log = JsonLog()
    log.say('  a "note"\nof two lines, 关节 \x1b[31m')
    log.say("")
    log.show("tick 4 | 20 Hz")
    log.end()
    (line,) = json_lines(capsys.readouterr().out)
    assert (line["event"], line["words"]) == ("note", 'a "note"\nof two lines, 关节 \x1b[31m')


def test_a_launch_that_fails_ends_its_log_with_the_cause(capsys: Capture) -> None:
    interrupt: Any = None  # not reached
    with pytest.raises(RtError) as failure:
        launch(["--robot", "nobody's", "--log-format", "json"], interrupt)
    (line,) = json_lines(capsys.readouterr().out)
    assert (line["event"], line["words"]) == ("failed", str(failure.value))
    with pytest.raises(RtError):
        launch(["--robot", "nobody's"], interrupt)
    assert capsys.readouterr().out == "", "its sentence is told on stderr, once"


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Tells as JSON; its inference waits until it is killed."""
    (tmp_path / "waits.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.setitem(MODULES, "inference", "waits")
    with Supervisor(driven(tmp_path, monkeypatch), JsonLog().tell) as running:
        yield running


def driven(folder: Path, monkeypatch: pytest.MonkeyPatch, **overrides: Any) -> Config:
    """A session of nobody's robot, whose children may be modules that lie in `folder`."""
    (folder / "nobody.py").write_text(
        "from rt.robots.robot import Backend\nBACKENDS = {'sim': Backend(robot='nobody:Robot')}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return config(driver=str(folder / "nobody.py"), session=unique_session("log"), **overrides)


def test_ticks_that_nobody_could_read_are_told_as_missed(
    supervisor: Supervisor, capsys: Capture
) -> None:
    board = Board(supervisor, HumanLog())
    with supervisor.session.writer("tick") as ticks:
        tick = ticks.buffer()
        for k in range(3001):
            tick["tick"] = k
            ticks.write(tick)
            if k == 0:
                look_once(board)
    look_once(board)
    board.close()
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if "overwritten" in line]
    assert told == [
        "tick 3000: 952 ticks overwritten unread: what only they held is not told",
    ]


def look_once(board: Board) -> None:
    """At the rings."""
    for _ in range(SHOW_EVERY):
        board.look()


def test_a_restart_is_told_once_with_its_cause_and_tick(
    supervisor: Supervisor, capsys: Capture
) -> None:
    child = supervisor.children["inference"]
    child.spawn()
    with (
        supervisor.session.writer("tick") as ticks,
        supervisor.session.writer("status.inference") as statuses,
    ):
        tick, status = ticks.buffer(), statuses.buffer()
        tick["tick"] = 41
        ticks.write(tick)
        victim = status["pid"] = child.pid
        status["state"] = b"ready"
        statuses.write(status)
    supervisor.watch()
    os.kill(victim, signal.SIGKILL)

    def restarted() -> bool:
        supervisor.watch()
        return child.restarts > 0

    until("the restart", restarted)
    for _ in range(3):
        supervisor.watch()
    (line,) = json_lines(capsys.readouterr().out)
    assert (line["event"], line["tick"]) == ("restart", 41)
    assert line["reason"] == f"inference (pid {victim}) died while ready: SIGKILL"
    assert line["words"] == line["reason"] + "; restarted (1 of 5)"
    assert supervisor.restarts()["inference"] == 1


@pytest.mark.parametrize(
    ("end", "patience_s", "words"),
    [
        ("raise SessionError('its disk is full')", 60.0, "its disk is full"),
        ("signal.pause()", 0.2, "record (pid {pid}) died while running: SIGKILL"),
    ],
)
def test_a_recording_that_fails_while_the_session_stops_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, patience_s: float, words: str
) -> None:
    (tmp_path / "records.py").write_text(RECORDS.format(end=end))
    monkeypatch.setattr("rt.launcher.supervisor.RECORD", "records")
    monkeypatch.setattr("rt.launcher.supervisor.RECORDED_S", patience_s)
    monkeypatch.setattr("rt.launcher.supervisor.GRACE_S", 0.0)  # the others'
    told: list[Event] = []
    with Supervisor(driven(tmp_path, monkeypatch, record="there"), told.append) as running:
        record = running.children["record"]
        record.spawn()
        until("it to record", lambda: record.state == "running")
        pid = record.pid
        assert running.stop(), "in order: the robot was not in anybody's hands"
    (event,) = told
    assert event.kind == "recording"
    assert event.words == f"{words.format(pid=pid)}: its end is missing"
    assert segments(running.session.name) == []


def test_why_a_chunk_was_refused_is_not_lost_between_two_looks(supervisor: Supervisor) -> None:
    session = supervisor.session
    with (
        session.reader("chunk") as chunks,
        session.reader("status.inference") as read,
        session.writer("status.inference") as written,
    ):
        events = Events(chunks, read, 1)
        status = written.buffer()
        for _ in range(50):  # in 0.25 s, at 1 kHz
            status["dropped"] = 1
            status["detail"] = b"" if read.head else b"not finite"
            written.write(status)
        (event,) = events.of(np.zeros(0, session.reader("tick").dtype))
    assert event.reason == "not finite"
