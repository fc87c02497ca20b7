"""The dashboard: all in words and glyphs, at 80 columns and 24 lines, whatever it is told."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from making import Simulate, late_once, with_silence
from rich.console import Console
from shown_session import CHILDREN, Shown

from rt import clock
from rt.config import Config
from rt.dashboard.look import Look, Watched
from rt.dashboard.sparkline import Worst, sparkline
from rt.dashboard.strip import EXECUTED, FROZEN, KINDS, NEW, NOW, OVERLAP, legend, rows, strip
from rt.dashboard.text import render
from rt.dashboard.watch import View
from rt.records import PARTS, Hold
from rt.testing import FakeClock, SimulatedRun, config

WIDTH, HEIGHT = 80, 24
H = 16
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
DEAD = 2**22 + 1  # beyond the kernel's pids
Show = Callable[..., Shown]


@pytest.fixture
def show() -> Iterator[Show]:
    """`show(config, run=None)`: a session with what `run` wrote, removed after the test."""
    with ExitStack() as opened:

        def make(made_of: Config, run: SimulatedRun | None = None, **options: Any) -> Shown:
            shown = opened.enter_context(Shown(made_of, **options))
            if run is not None:
                shown.play(run)
            return shown

        yield make


def look(shown: Shown, span_s: float = 0.5) -> Look:
    """What one who comes now sees, however slow this machine is."""
    with Watched(shown.session, span_s) as watched:
        watched.follow(0)
        return watched.look()._replace(now_ns=shown.now_ns)


def drawn(seen: Look, *, encoding: str = "utf-8", height: int | None = None, **options: Any) -> str:
    """As a terminal of that encoding gets it; without a height, as a pipe does."""
    octets = io.BytesIO()
    file = io.TextIOWrapper(octets, encoding=encoding)
    console = Console(**{"file": file, "width": WIDTH, "_environ": {}} | options)
    console.print(View(seen), height=height)
    file.flush()
    return octets.getvalue().decode(encoding)


def a_run(simulate: Simulate, ticks: int = 60, **options: Any) -> SimulatedRun:
    """With a late chunk, and a robot that was silent for a while."""
    made = config(action_chunk_size=H, min_num_actions_executed=5, **options)
    return with_silence(simulate(made, delay=late_once), ticks, at=30)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("cameras", [0, 3, 9])
def test_it_fits_80_columns_and_24_lines_and_colour_only_adds(
    simulate: Simulate, show: Show, encoding: str, cameras: int
) -> None:
    names = tuple(f"camera-with-a-long-name-{n}" for n in range(cameras))
    run = a_run(simulate, camera_names=names)
    children = (*CHILDREN, *(f"camera.{name}" for name in names))
    shown = show(run.config, run, children=children)
    for child in children:
        shown.tell(child, detail=b"what it is doing, at length: " * 9)
    seen = look(shown)
    plain = drawn(seen, encoding=encoding, height=HEIGHT)
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) == WIDTH
    assert len(plain.splitlines()) <= HEIGHT
    assert plain.isascii() == (encoding != "utf-8")
    for label in ("tick ", "now ", "jitter ", "p99.9 ", "chunk ", "delay ", "holds ", "sensors "):
        assert label in plain
    assert re.search(r"^events +tick \d+: ", plain, re.M)
    assert "tick 35: chunk 4 came late" in plain
    assert all(f"{name} none yet" in plain for name in names)
    terminal = {"force_terminal": True, "color_system": "standard"}
    coloured = drawn(seen, encoding=encoding, height=HEIGHT, **terminal)
    assert "\x1b[" in coloured
    assert ESCAPE.sub("", coloured) == plain


def test_every_process_is_shown_with_its_state_and_what_it_says(show: Show) -> None:
    shown = show(config())
    shown.tell("inference", b"loading", b"policy of 3 GB")
    shown.tell("sim", b"failed", b"RobotError: no scene")
    shown.tell("control", pid=DEAD)
    text = drawn(look(shown), height=HEIGHT)
    assert re.search(r"^supervisor .* running$", text, re.M)
    assert re.search(r"^inference +\d+ ms ago .* loading   policy of 3 GB$", text, re.M)
    assert re.search(r"^sim .* failed   RobotError: no scene$", text, re.M)
    assert re.search(r"^control .* gone$", text, re.M), (
        "it was killed while its record says running"
    )


def test_chunks_that_nobody_gave_are_told_apart_from_those_that_were_refused(
    simulate: Simulate, show: Show
) -> None:
    run = a_run(simulate)
    chunk = run.chunks[-1]
    for part, ms in zip(PARTS, (1, 20, 3, 4, 50, 6), strict=True):
        chunk[f"{part}_ns"] = ms * 1_000_000
    shown = show(run.config, run)
    assert "unanswered" not in drawn(look(shown))
    shown.tell("inference", b"ready", dropped=2, outcomes=[40, 3, 0, 7, 0])
    seen = look(shown)
    assert re.search(r"^inference .* 10 unanswered +2 refused\n +\d+ expired$", drawn(seen), re.M)
    text = render(seen.snapshot)
    assert "2 dropped   outcomes: 40 ok, 3 too_late, 7 unreachable\n" in text
    names = r" +".join(PARTS)
    assert re.search(rf"{names} +total ms(.*\n)+ .* 1.00 +20.00 +3.00 +4.00 +50.00 +6.00 ", text)
    shown.tell("inference", b"ready")
    assert "outcomes" not in render(look(shown).snapshot)


def test_what_the_kernel_did_not_grant_to_control_is_shown(show: Show) -> None:
    shown = show(config())
    grant = b'{"name":"%s","asked":"x","granted":"y","ok":%s,"remedy":"do"}'
    grants = b",".join([grant % (b"scheduler", b"false"), grant % (b"core", b"true")])
    shown.tell("control", detail=b"[" + grants + b"]")
    assert re.search(r"^control .* running   not granted: scheduler$", drawn(look(shown)), re.M)


def test_with_too_many_processes_those_that_are_not_well_are_shown(show: Show) -> None:
    children = (*CHILDREN, *(f"camera.{n}" for n in range(20)))
    shown = show(config(), children=children)
    shown.tell("camera.17", b"failed", b"no such device")
    shown.tell("inference", b"ready")  # which is as well as it can be
    text = drawn(look(shown), height=HEIGHT)
    assert re.search(r"^camera.17 .* failed   no such device\n+supervisor", text, re.M)
    listed = len(
        re.findall(
            r"^(?:supervisor|control|inference|sim|camera\.\d+) .* (?:running|ready|failed)",
            text,
            re.M,
        )
    )
    others = len(children) + 1 - listed  # the supervisor is one
    assert f"and {others} more, {others} of them at work" in text
    assert drawn(look(shown)).count("camera.") == 20, "a pipe has room for all"


@pytest.mark.parametrize("ticks", [36, 40, 41, 45, 47, 55])
@pytest.mark.parametrize(
    "mode",
    [
        {"algorithm": "rtc"},
        {"algorithm": "rtc", "schedule": "ones"},
        {"algorithm": "naive"},
        {"algorithm": "temporal_ensembling"},
    ],
)
def test_the_strip_tells_what_became_of_each_row(
    simulate: Simulate, show: Show, ticks: int, mode: dict[str, str]
) -> None:
    run = a_run(simulate, ticks, **mode)
    last, seen = run.ticks[-1], look(show(run.config, run))
    index = int(last["chunk"])
    chunk = run.chunks[index]
    done = {int(t["row"]) for t in run.ticks if t["chunk"] == index and t["row"] >= 0}
    expected = []
    for row in range(H):
        weight = float(chunk["weights"][row])
        if row == int(last["row"]):
            expected.append(NOW)
        elif row in done:
            expected.append(EXECUTED)
        elif weight == 0:
            expected.append(NEW)
        else:
            frozen = weight == 1 and row < int(chunk["d_planned"])
            expected.append(FROZEN if frozen else OVERLAP)
    assert rows(seen.snapshot["chunk"], seen.executed) == expected
    for encoding, glyph in (("utf-8", 1), ("ascii", 2)):
        strips = "".join(str(kind[glyph]) * 3 for kind in expected)
        assert f"\nchunk      {strips}   number {index}\n" in drawn(seen, encoding=encoding)
        for kind in set(expected) - {NOW}:
            words = f"{kind[glyph]} {kind.name} {expected.count(kind)}"
            assert words in drawn(seen, encoding=encoding)
        assert f"> now row {int(last['row'])}" in drawn(seen, encoding=encoding)


def test_a_run_has_every_kind_of_row(simulate: Simulate, show: Show) -> None:
    """The control of the test above."""
    run = a_run(simulate, 45)
    seen = look(show(run.config, run))
    assert set(rows(seen.snapshot["chunk"], seen.executed)) == set(KINDS)


def test_a_row_that_passed_while_control_held_was_not_executed(
    simulate: Simulate, show: Show
) -> None:
    run = a_run(simulate, 45)
    run.robot.reading = "none"
    run.tick(2)
    run.robot.reading = "fresh"
    run.tick(1)
    seen = look(show(run.config, run))
    kinds = rows(seen.snapshot["chunk"], seen.executed)
    held = int(run.ticks[-1]["row"]) - 1
    assert run.ticks[-2]["hold"] == Hold.NO_STATE
    assert kinds[held] not in (EXECUTED, NOW)
    assert EXECUTED in kinds[:held]


@pytest.mark.parametrize("count", [1, 3, 40, 79, 80, 81, 160, 1000])
def test_a_strip_is_never_wider_and_never_loses_the_row_of_now(count: int) -> None:
    for now in {0, count // 2, count - 1}:
        kinds = [NEW] * count
        kinds[now] = NOW
        text = strip(kinds, WIDTH)
        assert len(text) <= WIDTH
        assert len(text) >= min(count, WIDTH)
        first = text.plain.index(NOW.glyph)
        assert first / len(text) == pytest.approx(now / count, abs=1 / min(count, WIDTH))
        assert f"row {now}" in legend(kinds).plain


def test_each_glyph_of_a_strip_is_another() -> None:
    assert len({kind.glyph for kind in KINDS}) == len(KINDS)
    assert len({kind.ascii_glyph for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("ticks", [35, 60])
def test_counted_delays_stand_beside_the_planned_ones(
    simulate: Simulate, show: Show, ticks: int
) -> None:
    run = a_run(simulate, ticks)
    line = re.search(r"^delay +(.*)$", drawn(look(show(run.config, run)), width=120), re.M)
    assert line is not None
    planned = [int(chunk["d_planned"]) for chunk in run.chunks]
    counted = [int(chunk["previous_d_counted"]) for chunk in run.chunks[1:]]
    used = run.ticks[-1]
    assert used["chunk"] == len(run.chunks) - 1
    counted.append(int(used["chunk_first_used_tick"] - used["chunk_first_tick"]))
    said = [f"counted {counted[-1]}, planned {planned[-1]} rows"]
    before = []
    for chunk, c, p in list(zip(run.chunks, counted, planned, strict=True))[-2:-9:-1]:
        before.append("cold" if chunk["cold"] else f"{c}/{p}" + (" late" if c > p else ""))
    assert line[1] == f"{said[0]}   before: {'  '.join(before)}"
    if ticks == 35:
        assert " late  cold" in line[1]


def test_jitter_is_drawn_over_time_with_its_percentiles(simulate: Simulate, show: Show) -> None:
    late_us = [50] * 50 + [800] + [50] * 49
    lateness = FakeClock(lateness_ns=[us * 1000 for us in late_us])
    run = simulate(config(), clock=lateness)
    run.tick(len(late_us))
    seen = look(show(run.config, run))
    text = drawn(seen)
    assert "p50 50 us   p99 50 us   p99.9 800 us   max 800 us   overruns 0" in text
    assert "worst of 0.5 s each, to 800 us" in text
    bars = re.search(r"^jitter +([▁▂▃▄▅▆▇█]+) ", text, re.M)
    assert bars is not None
    assert bars[1].count("█") == 1
    assert set(bars[1]) == {"█", "▁"}
    assert abs(bars[1].index("█") - len(bars[1]) / 2) <= 1.5


def test_holds_are_counted_by_reason_and_the_present_one_is_told(
    simulate: Simulate, show: Show
) -> None:
    run = a_run(simulate)
    shown = show(run.config, run)
    held = [Hold(int(tick["hold"])).name.lower() for tick in run.ticks if tick["hold"]]
    text = drawn(look(shown))
    assert "now        executes\n" in text
    line = re.search(r"^holds +(.*)$", text, re.M)
    assert line is not None
    assert line[1].startswith(f"{int(run.ticks[-1]['holds'])} ticks, seen:")
    for reason in set(held):
        assert f"{reason} {held.count(reason)}" in line[1]
    shown.again(hold=Hold.NO_STATE, why=b"topic /joint_states is silent", row=-1.0)
    text = drawn(look(shown))
    assert "now        HOLDS, no_state: topic /joint_states is silent\n" in text
    assert ">" not in re.findall(r"^chunk.*$", text, re.M)[0]


def test_a_loop_that_has_stopped_is_told_in_words(simulate: Simulate, show: Show) -> None:
    run = a_run(simulate)
    shown = show(run.config)
    shown.play(run, ago_s=30)
    assert "now        NO TICK for 30 s\n" in drawn(look(shown))


def test_every_sensors_age_is_told_and_what_is_too_old(simulate: Simulate, show: Show) -> None:
    run = a_run(simulate, camera_names=("head", "left", "right"), max_age_ms=60_000)
    shown = show(run.config, run)
    now = clock.now_ns()
    for ms in (150, 100, 50, 0):
        shown.publish("frame.head", t_capture=now - ms * 1_000_000)
    shown.publish("frame.left", t_capture=now - 900_000_000_000)
    line = re.search(r"^sensors +(.*)$", drawn(look(shown)), re.M)
    assert line is not None
    wanted = r"state 0 ms   head \d+ m?s 20 Hz   left OLD 9\d\d s   right none yet"
    assert re.fullmatch(wanted, line[1])
    shown.again(t_state=shown.now_ns - 20_000_000_000)
    assert "state OLD 20 s" in drawn(look(shown))
    shown.again(t_state=0)
    assert "state none yet" in drawn(look(shown))


def test_the_newest_events_are_shown_oldest_first(simulate: Simulate, show: Show) -> None:
    run = a_run(simulate)
    seen = look(show(run.config, run))
    told = [str(event) for event in seen.events]
    assert len(told) > 4
    assert any("came late" in line for line in told)
    full, short = drawn(seen), drawn(seen, height=20)
    listed = full[full.index("\nevents ") :]
    assert [line[11:] for line in listed.strip().splitlines()] == told
    assert told[-1] in short
    assert told[0] not in short


@pytest.mark.parametrize(
    ("said", "is_shown"),
    [
        (
            "[red]hot[/red] [/x] :smile: [link=file:x]y",
            "[red]hot[/red] [/x] :smile: [link=file:x]y",
        ),
        ("\x1b[2J\x1b]0;gone\a\r\nnext\x00end", "?[2J?]0;gone?next?end"),
        ("关节 3 \u202e过热", "关节 3 ?过热"),
        ("{0} %s $x$ \\", "{0} %s $x$ \\"),
    ],
)
def test_what_looks_like_markup_or_control_is_shown_as_it_is(
    simulate: Simulate, show: Show, said: str, is_shown: str
) -> None:
    run = a_run(simulate)
    shown = show(run.config, run)
    shown.again(hold=Hold.ROBOT_FAULT, why=said.encode())
    shown.tell("inference", b"[b]odd[/b]", said.encode())
    for options in ({}, {"force_terminal": True, "color_system": "standard"}):
        text = ESCAPE.sub("", drawn(look(shown), **options))
        assert f"HOLDS, robot_fault: {is_shown}" in text
        assert "[b]odd[/b]" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    assert drawn(look(shown), encoding="ascii").isascii()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_none_are_shown_without_a_fuss(
    simulate: Simulate, show: Show, value: float
) -> None:
    run = a_run(simulate)
    shown = show(run.config, run)
    shown.publish("chunk", weights=np.float32(np.nan), actions=np.float32(np.inf))
    fields = {"row": value, "state": value, "command": value, "target": value}
    shown.again(chunk=len(run.chunks), hold=Hold.NOT_FINITE, **fields)
    text = drawn(look(shown), height=HEIGHT)
    assert "HOLDS, not_finite" in text
    assert f"\nchunk      {NEW.glyph * 48}   number {len(run.chunks)}\n" in text


def test_a_hold_of_another_version_is_shown_by_its_number(simulate: Simulate, show: Show) -> None:
    run = a_run(simulate)
    shown = show(run.config, run)
    shown.again(hold=99)
    text = drawn(look(shown))
    assert "now        HOLDS, 99\n" in text
    assert "99 1" in text
    assert "hold 99" in text


@pytest.mark.parametrize("children", [("inference",), CHILDREN])
def test_a_session_without_a_tick_or_a_chunk_is_shown(
    show: Show, children: tuple[str, ...]
) -> None:
    text = drawn(look(show(config(camera_names=("head",)), children=children)), height=HEIGHT)
    assert "now        waits for the first tick\n" in text
    assert "chunk      none in use\n" in text
    assert "delay      no chunk yet\n" in text
    assert "sensors    state none yet   head none yet\n" in text
    assert "holds      0 ticks\n" in text


def test_a_tick_without_a_chunk_is_shown(simulate: Simulate, show: Show) -> None:
    run = simulate(config())
    run.tick(6)
    text = drawn(look(show(run.config, run)))
    assert "chunk      none in use\n" in text
    assert re.search(r"^now        HOLDS, no_chunk$", text, re.M)


def test_bars_rise_with_their_value_and_a_gap_stays_a_gap() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇██"
    assert sparkline([8, None, 8]) == "█ █"
    assert sparkline([np.nan, np.inf, 4.0, -5.0]) == "  █▁"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([0, 4, 8], ascii_only=True) == "_=#"


def test_the_worst_of_each_span_is_kept_for_the_newest_spans() -> None:
    worst = Worst(span_ns=10, keep=4)
    assert worst.values == [None] * 4
    worst.add(np.array([0, 9, 10, 31]), np.array([3, 1, 2, 5]))
    worst.add(np.array([32, 39]), np.array([4, 7]))
    assert worst.values == [3, 2, None, 7]
    worst.add(np.array([55]), np.array([1]))
    assert worst.values == [None, 7, None, 1]
    worst.add(np.arange(0, 5000, 10), np.ones(500, int))
    assert len(worst._worst) == 4
