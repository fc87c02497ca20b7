"""`rt.inspect --plot`: what is drawn is what happened; what cannot be is refused."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from making import Simulate, late_once, with_silence
from matplotlib.figure import Figure
from shown_session import Shown

from rt import extras, inspect
from rt.cli import end_with_sentence
from rt.config import JointGroup
from rt.dashboard import plot as plot_module
from rt.dashboard.plot import plot, plot_session
from rt.delays import Delay, delays
from rt.errors import MissingPackageError, SessionError
from rt.testing import FakeClock, SimulatedRun, config

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that was saved."""
    figures: list[Any] = []
    save = Figure.savefig

    def keep(figure: Any, *args: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def size(path: Path) -> tuple[int, int]:
    """Of a PNG."""
    octets = path.read_bytes()
    assert octets.startswith(PNG)
    width, height = struct.unpack(">II", octets[16:24])
    return width, height


def a_run(simulate: Simulate, ticks: int = 90, **options: Any) -> SimulatedRun:
    """Its loop wakes late now and then, a chunk is late, and the robot is silent for 3 ticks."""
    late_ns = np.random.default_rng(0).integers(20_000, 300_000, ticks).tolist()
    made = config(**{"action_chunk_size": 16, "min_num_actions_executed": 5} | options)
    run = simulate(made, delay=late_once, clock=FakeClock(lateness_ns=late_ns))
    return with_silence(run, ticks, at=30)


def records(run: SimulatedRun) -> tuple[Any, dict[int, Any]]:
    return np.array(run.ticks), dict(enumerate(run.chunks))


def test_what_happened_is_drawn(simulate: Simulate, drawn: list[Any], tmp_path: Path) -> None:
    run = a_run(simulate)
    ticks, chunks = records(run)
    plot(run.config, ticks, chunks, tmp_path / "a.png")
    assert size(tmp_path / "a.png") == (1200, 1080)
    jitter, delay, actions = drawn[0].axes
    late_us = (ticks["t_wake"] - ticks["t_due"]) / 1e3
    assert sum(bar.get_height() for bar in jitter.patches) == len(ticks)
    assert f"max {late_us.max():.1f} us" in jitter.get_title("left")
    found = delays(run.config, ticks, chunks)
    planned, counted, late = delay.lines
    assert list(counted.get_ydata()) == [d.counted for d in found]
    assert list(planned.get_ydata()) == [d.planned for d in found]
    assert list(late.get_ydata()) == [d.counted for d in found if d.late] != []
    commands = [line for line in actions.lines if len(line.get_xdata()) == len(ticks)]
    assert len(commands) == run.config.params.action_dim
    for joint, line in enumerate(commands):
        assert line.get_ydata() == pytest.approx(np.rad2deg(ticks["command"][:, joint]))
    t_s = commands[0].get_xdata()
    assert t_s[-1] == 0
    assert t_s[0] == pytest.approx(-(len(ticks) - 1) / 20, abs=1e-3)
    marks = [line.get_xdata()[0] for line in actions.lines if line not in commands]
    used = {int(tick["chunk_first_used_tick"]) for tick in ticks} - {-1}
    assert marks == pytest.approx([t_s[k] for k in sorted(used)])
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in actions.patches]
    held = [k for k, tick in enumerate(ticks) if tick["hold"]]
    begins = [k for k in held if k - 1 not in held]
    ends = [k + 1 for k in held if k + 1 not in held]
    assert len(begins) == 2
    assert spans == [pytest.approx((t_s[b], t_s[e])) for b, e in zip(begins, ends, strict=True)]
    words = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert words == ["hold no_chunk", "hold no_state", "command arm"]


def test_delays_are_those_that_inference_counted(simulate: Simulate) -> None:
    run = a_run(simulate)
    ticks, chunks = records(run)
    found = delays(run.config, ticks, chunks)
    counted = [int(after["previous_d_counted"]) for after in run.chunks[1:]]
    planned = [int(chunk["d_planned"]) for chunk in run.chunks]
    warm = [i for i, chunk in enumerate(run.chunks[:-1]) if not chunk["cold"]]
    assert [(d.planned, d.counted) for d in found[: len(warm)]] == [
        (planned[i], counted[i]) for i in warm
    ]
    assert len(found) - len(warm) <= 1, "the newest, which is in use but not yet counted there"
    assert [d.late for d in found] == [d.counted > (d.planned or 0) for d in found]
    assert {np.sign(d.counted - (d.planned or 0)) for d in found} == {-1, 0, 1}
    without = delays(run.config, ticks, {})
    assert [d.counted for d in without] == [d.counted for d in found]
    assert {d.planned for d in without} == {None}


def test_chunks_that_were_never_used_have_their_delay_drawn_too(simulate: Simulate) -> None:
    run = simulate(config(), delay=lambda n: 9.5 if n in (4, 5) else 2.5)
    run.tick(60)
    ticks, chunks = records(run)
    assert ticks[-1]["expired_chunks"] > 0
    expected = [
        (int(chunk["d_planned"]), int(after["previous_d_counted"]))
        for chunk, after in pairwise(run.chunks)
        if after["previous_d_counted"] >= 0
    ]
    found = delays(run.config, ticks, chunks)
    assert [(d.planned, d.counted) for d in found[: len(expected)]] == expected
    assert 10 in [d.counted for d in found[2:-2]]
    assert [d.t_s for d in found] == sorted(d.t_s for d in found)
    late = delays(run.config, ticks[-20:], chunks)
    assert late == found[-len(late) :], "what was before these ticks is not theirs"
    assert min(d.t_s for d in late) >= -1
    unused = next(i for i in chunks if i not in ticks["chunk"] and not chunks[i]["cold"])
    chunks[unused + 1]["previous_d_counted"] = -1
    assert len(delays(run.config, ticks, chunks)) == len(found) - 1


def test_a_chunk_that_started_cold_has_no_delay(simulate: Simulate) -> None:
    run = a_run(simulate, 40)
    ticks, chunks = records(run)
    cold = [i for i, chunk in chunks.items() if chunk["cold"]]
    assert cold
    for tick in ticks:  # as if the tick it was meant for had been skipped
        if tick["chunk"] in cold:
            tick["chunk_first_tick"] -= 1
    assert len(delays(run.config, ticks, chunks)) == len(delays(run.config, *records(run)))


@pytest.mark.parametrize("ticks_per_row", [1, 3])
def test_delays_are_counted_in_rows(simulate: Simulate, ticks_per_row: int) -> None:
    run = simulate(config(ticks_per_row=ticks_per_row), delay=lambda n: 2.5 * ticks_per_row)
    run.tick(40 * ticks_per_row)
    assert {d.counted for d in delays(run.config, *records(run))} == {3}
    assert isinstance(delays(run.config, *records(run))[0], Delay)


def test_numbers_that_are_none_are_left_out(
    simulate: Simulate, drawn: list[Any], tmp_path: Path
) -> None:
    run = a_run(simulate)
    ticks, chunks = records(run)
    for at, value in enumerate([np.nan, np.inf, -np.inf, 1.7e308, 1e6]):
        ticks["command"][40 + at, 0] = value
    plot(run.config, ticks, chunks, tmp_path / "a.png")
    low, high = drawn[0].axes[2].get_ylim()
    assert -1e6 < low < high < 1e6
    first = next(line for line in drawn[0].axes[2].lines if len(line.get_xdata()) == len(ticks))
    assert np.flatnonzero(np.isnan(first.get_ydata())).tolist() == list(range(40, 45))


def test_names_that_look_like_markup_are_drawn_as_they_are(
    simulate: Simulate, drawn: list[Any], tmp_path: Path
) -> None:
    names = ("$x^{$", "_hidden", "关节", "[red]a[/x]", "a\nb\x1b[2J", "%s {0}")
    limits = {"lower_deg": (-1e9,) * 2, "upper_deg": (1e9,) * 2, "max_delta_deg": 1e9}
    run = simulate(config([JointGroup(name=name, **limits) for name in names], name="$关^{$"))
    run.tick(20)
    plot(run.config, *records(run), tmp_path / "a.png")
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    shown = ("$x^{$", "_hidden", "??", "[red]a[/x]", "a?b?[2J", "%s {0}")
    assert labels[-len(names) :] == [f"command {name}" for name in shown]
    assert drawn[0].get_suptitle().startswith("$?^{$, session ")


@pytest.mark.parametrize("ticks", [1, 20])
def test_a_run_without_a_chunk_is_drawn(
    simulate: Simulate, drawn: list[Any], tmp_path: Path, ticks: int
) -> None:
    run = simulate(config(), delay=lambda n: 1000.0)
    run.tick(ticks)
    plot(run.config, *records(run), tmp_path / "a.png")
    assert drawn[0].axes[1].get_title("left") == "delay: 0 counted, 0 of them longer than planned"


def test_a_hold_of_another_version_is_drawn_by_its_number(
    simulate: Simulate, drawn: list[Any], tmp_path: Path
) -> None:
    run = a_run(simulate)
    ticks, chunks = records(run)
    ticks["hold"][50:] = 99
    plot(run.config, ticks, chunks, tmp_path / "a.png")
    assert "hold 99" in [text.get_text() for text in drawn[0].legends[0].get_texts()]
    last = drawn[0].axes[2].patches[-1]
    assert last.get_x() + last.get_width() == pytest.approx(0), "it lasts to the end"


@pytest.fixture
def shown(simulate: Simulate) -> Iterator[Shown]:
    run = a_run(simulate)
    with Shown(run.config) as shown:
        shown.play(run)
        yield shown


def told(shown: Shown, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Of `rt.inspect`: its exit code, what it printed, what it complained of."""
    line = ["--session", shown.session.name, *arguments]
    code = end_with_sentence(lambda: inspect.main(line))
    return code, *capsys.readouterr()


def test_the_flag_draws_the_last_seconds_and_says_what(
    shown: Shown, drawn: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.PNG"
    name = shown.session.name
    assert told(shown, "--plot", str(path), capsys=capsys) == (
        *(0, f"drew the last 4.5 s, 90 ticks of {name!r}, to {path}\n", ""),
    )
    assert size(path)
    again = told(shown, "--plot", str(path), "--last", "1", capsys=capsys)
    assert again == (0, f"drew the last 1.0 s, 20 ticks of {name!r}, to {path}\n", "")
    assert sum(bar.get_height() for bar in drawn[1].axes[0].patches) == 20


def test_the_last_seconds_are_so_long_also_where_ticks_were_skipped(
    simulate: Simulate, drawn: list[Any], tmp_path: Path
) -> None:
    run = simulate(config(), busy=lambda k: 1.5)  # two of three are run
    run.tick(90)
    assert run.ticks[-1]["overruns"] > 20
    with Shown(run.config) as shown:
        shown.play(run)
        plot_session(shown.session, tmp_path / "a.png", 2.0)
    wake_ns = np.array(run.ticks)["t_wake"]
    expected = int((wake_ns >= wake_ns[-1] - 2_000_000_000).sum())
    assert sum(bar.get_height() for bar in drawn[0].axes[0].patches) == expected < 40


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.foo", "expected a name that ends in .png"),
        ("a", "expected a name that ends in .png"),
        ("", "expected a name that ends in .png"),
        ("none/a.png", "expected a file in a folder that exists"),
        ("file/a.png", "expected a file in a folder that exists"),
        ("folder.png", "expected a file in a folder that exists"),
        ("a" * 300 + ".png", "expected a file that can be written"),
        ("/proc/a.png", "expected a file that can be written"),
        ("full.png", "expected a file that can be written"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_in_a_sentence(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, expected: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "full.png").symlink_to("/dev/full")
    path = tmp_path / name if name else Path()
    code, said, complaint = told(shown, "--plot", str(path), capsys=capsys)
    assert (code, said) == (2, "")
    assert complaint.count("\n") == 1
    assert expected in complaint
    assert complaint.startswith(f"--plot {path}")


def test_without_matplotlib_it_says_how_to_get_it(
    shown: Shown,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    code, said, complaint = told(shown, "--plot", str(tmp_path / "a.png"), capsys=capsys)
    assert (code, said) == (2, "")
    assert complaint.endswith("pip install -e '.[viz]'\n")
    assert complaint.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingPackageError):
        plot(shown.config, np.zeros(1), {}, tmp_path / "a.png")


def test_a_session_without_a_tick_has_nothing_to_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Shown(config()) as shown:
        code, said, complaint = told(shown, "--plot", str(tmp_path / "a.png"), capsys=capsys)
    assert (code, said) == (2, "")
    assert complaint.count("\n") == 1
    assert "got none yet" in complaint
    assert list(tmp_path.iterdir()) == []


def test_more_ticks_than_are_kept_are_refused(tmp_path: Path) -> None:
    with Shown(config(ticks_per_row=50)) as shown:
        with pytest.raises(SessionError, match="expected at most 100 s at 1000 Hz"):
            plot_session(shown.session, tmp_path / "a.png", 101)
        with pytest.raises(SessionError, match="got none yet"):
            plot_session(shown.session, tmp_path / "a.png", 100)


@pytest.fixture
def at_1khz(simulate: Simulate) -> Iterator[tuple[Shown, Callable[[int], None]]]:
    """A session that has run for 2.5 s already, and what lets so many ticks pass."""
    run = simulate(config(ticks_per_row=50))
    run.tick(1)
    with Shown(run.config) as shown:
        shown.play(run)
        period_ns, record = run.config.period_ns, run.ticks[0].copy()
        ticks = shown.writer("tick").buffer()

        def go_on(count: int) -> None:
            for _ in range(count):
                for name in ("t_due", "t_wake", "t_done"):
                    record[name] += period_ns
                record["tick"] += 1
                ticks[...] = record
                shown.writer("tick").write(ticks)

        go_on(2500)
        yield shown, go_on


def test_what_the_ring_has_lost_is_waited_for(
    at_1khz: tuple[Shown, Callable[[int], None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown, go_on = at_1khz
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        go_on(round(seconds * 1000))

    monkeypatch.setattr(plot_module, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    sentence = plot_session(shown.session, tmp_path / "a.png", 1.5)
    assert slept == []
    assert "drew the last 1.5 s, 150" in sentence
    sentence = plot_session(shown.session, tmp_path / "a.png", 5.0)
    assert "drew the last 5.0 s, 500" in sentence
    assert math.isclose(sum(slept), 5.0 - 2.048, abs_tol=0.1)
    assert capsys.readouterr().err == "following the session for 3 s\n"


@pytest.mark.parametrize("ends", ["session", "patience"])
def test_what_there_is_is_drawn_when_no_more_comes(
    at_1khz: tuple[Shown, Callable[[int], None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    shown, _ = at_1khz
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if ends == "session":
            shown.release_lock()
            assert now <= seconds, "looked again after the end"

    monkeypatch.setattr(plot_module, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    sentence = plot_session(shown.session, tmp_path / "a.png", 5.0)
    assert "drew the last 2.0 s, 204" in sentence
    assert ends == "session" or 2.9 < now < 9
