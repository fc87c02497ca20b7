"""Jitter, delays and executed actions of a session's last seconds, drawn: `rt.inspect --plot`.

Needs matplotlib, which is imported by who draws.
"""

from __future__ import annotations

import io
import itertools
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.cli import is_live, printable
from rt.config import Config
from rt.delays import Delay, delays, seconds_before_last, swaps
from rt.errors import SessionError
from rt.extras import need
from rt.history import History
from rt.records import Hold, named
from rt.session import Session, ring_table
from rt.statistics import Distribution

COLOURS = ("#4477aa", "#ee8866", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#332288")
HOLD_COLOURS = ("#cc3311", "#aa3377", "#ddaa33", "#009988")
MOST_TICKS = 100_000  # each takes about 2 kB
LOOK_S = 0.05
PATIENCE_S = 5.0  # beyond the seconds asked for, if the loop is slow
MOST_DEG = 1e6  # a larger command is nonsense, and no axis for the others


def plot_session(session: Session, path: Path, last_s: float) -> str:
    """Draw the session's last `last_s` seconds to `path`; what its tick ring has lost already is
    waited for. Returns a sentence that says what was drawn.

    Raises MissingPackageError, NoSessionError, SessionError: `path` cannot be written, there is no
    tick, or more ticks are asked for than are kept.
    """
    _check(path)
    config = session.config()
    count = math.ceil(last_s * config.control_hz)
    if count > MOST_TICKS:
        raise SessionError(
            f"--last {last_s:g}: expected at most {MOST_TICKS / config.control_hz:g} s at "
            f"{config.control_hz:g} Hz, which are {MOST_TICKS} ticks: ask for fewer seconds"
        )
    ticks, chunks = _newest(session, config, count)
    if len(ticks):  # else `plot` says so
        ticks = ticks[seconds_before_last(ticks, ticks["t_wake"]) >= -last_s]
    plot(config, ticks, chunks, path)
    drawn_s = (int(ticks["t_wake"][-1]) - int(ticks["t_wake"][0]) + config.period_ns) / 1e9
    return f"drew the last {drawn_s:.1f} s, {len(ticks)} ticks of {session.name!r}, to {path}"


def _newest(session: Session, config: Config, count: int) -> tuple[NDArray[Any], dict[int, Any]]:
    """The newest `count` ticks, fewer if there were no more; and the newest chunks."""
    table = ring_table(config)
    with (
        session.reader("tick", table["tick"][0]) as ticks,
        session.reader("chunk", table["chunk"][0]) as chunks,
    ):
        history = History(ticks, chunks, count)
        history.update()
        if history.statistics.missed and len(history.ticks) < count:
            wait_s = (count - len(history.ticks)) / config.control_hz
            print(f"following the session for {wait_s:.0f} s", file=sys.stderr)
            end = time.monotonic() + wait_s + PATIENCE_S
            while len(history.ticks) < count and time.monotonic() < end and is_live(session.name):
                time.sleep(LOOK_S)
                history.update()
        return history.ticks, history.chunks


def plot(config: Config, ticks: NDArray[Any], chunks: dict[int, Any], path: Path) -> None:
    """Draw tick records (n,), oldest first, and chunk records by ring index.

    Raises MissingPackageError without matplotlib, SessionError if there is no tick or `path` cannot
    be written.
    """
    _check(path)
    if not len(ticks):
        raise SessionError(
            f"--plot {path}: expected ticks of session {config.run.session!r}, got none yet: wait "
            "until control runs"
        )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 9), layout="constrained")
    jitter, delay, actions = figure.subplots(3, 1)
    title = f"{config.robot.name}, session {config.run.session}, {config.run.algorithm}"
    figure.suptitle(printable(title, ascii_only=True), parse_math=False)
    _draw_jitter(jitter, ticks)
    _draw_delays(delay, delays(config, ticks, chunks))
    _draw_actions(actions, config, ticks)
    delay.sharex(actions)
    for panel in (jitter, delay, actions):
        panel.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format="png", metadata={"Software": None})
    try:
        path.write_bytes(drawn.getvalue())
    except OSError as error:
        raise _refused(path, f"a file that can be written, got: {error.strerror}") from None


def _draw_jitter(panel: Any, ticks: NDArray[Any]) -> None:
    late_ns = ticks["t_wake"] - ticks["t_due"]
    in_all = Distribution()
    in_all.add(late_ns)
    late_us = (late_ns / 1e3).clip(min=1.0)
    panel.hist(late_us, np.geomspace(1, max(10, late_us.max()), 60), color=COLOURS[0], log=True)
    panel.set_xscale("log")
    figures = ", ".join(f"{name} {us:g} us" for name, us in in_all.summary().items())
    panel.set_title(f"jitter: {figures}", loc="left", fontsize=10)
    panel.set_xlabel("how late the loop woke, us")
    panel.set_ylabel("ticks")


def _draw_delays(panel: Any, found: list[Delay]) -> None:
    planned = [d for d in found if d.planned is not None]
    late = [d for d in found if d.late]
    known = f"{len(planned)} whose plan is known" if len(planned) < len(found) else "them"
    title = f"delay: {len(found)} counted, {len(late)} of {known} longer than planned"
    panel.set_title(title, loc="left", fontsize=10)
    panel.set_xlabel("seconds before the last tick")
    panel.set_ylabel("d, rows")
    panel.yaxis.get_major_locator().set_params(integer=True)
    circle = {"mfc": "none", "mec": "0.4", "ms": 9}
    panel.plot(
        [d.t_s for d in planned], [d.planned for d in planned], "o", label="planned", **circle
    )
    for label, marks, style in (("counted", found, "."), ("late", late, "x")):
        colour = COLOURS[0] if label == "counted" else HOLD_COLOURS[0]
        panel.plot(
            [d.t_s for d in marks], [d.counted for d in marks], style, color=colour, label=label
        )
    if found:
        highest = max(max(d.counted, d.planned or 0) for d in found)
        panel.set_ylim(0, 1.3 * max(highest, 1))  # with room for the legend
        panel.legend(loc="upper left", fontsize=8, ncols=3)


def _draw_actions(panel: Any, config: Config, ticks: NDArray[Any]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        command = np.rad2deg(ticks["command"])
    command[~(np.abs(command) < MOST_DEG)] = np.nan
    t_s, keys = seconds_before_last(ticks, ticks["t_wake"]), {}
    for at in seconds_before_last(ticks, swaps(ticks)["t_wake"]):
        panel.axvline(at, color="0.75", lw=0.8, zorder=0)
    reasons = sorted({*ticks["hold"].tolist()} - {0})
    for begin, end, reason in _still(ticks):
        colour = HOLD_COLOURS[reasons.index(reason) % len(HOLD_COLOURS)]
        keys[f"hold {named(Hold, reason).lower()}"] = panel.axvspan(
            t_s[begin], t_s[end], color=colour, alpha=0.25, lw=0
        )
    groups = zip(config.robot.joint_groups, config.joint_slices.values(), strict=True)
    for number, (group, joints) in enumerate(groups):
        style = {"color": COLOURS[number % len(COLOURS)], "lw": 1}
        keys[f"command {group.name}"] = panel.plot(t_s, command[:, joints], **style)[0]
    panel.set_title(
        f"what was commanded, {len(swaps(ticks))} swaps (grey lines), holds shaded",
        loc="left",
        fontsize=10,
    )
    panel.set_xlabel("seconds before the last tick")
    panel.set_ylabel("degrees")
    span_s = max(-t_s[0], config.period_ns / 1e9)
    panel.set_xlim(-1.01 * span_s, 0.01 * span_s)
    labels = [printable(label, ascii_only=True) for label in keys]
    legend = panel.figure.legend([*keys.values()], labels, loc="outside lower center", ncols=5)
    for words in legend.get_texts():
        words.set_parse_math(False)


def _still(ticks: NDArray[Any]) -> Iterator[tuple[int, int, int]]:
    """(first tick, tick after the last, reason) of each hold, by place in `ticks`."""
    hold = ticks["hold"]
    changes = np.flatnonzero(np.diff(hold)) + 1
    ends = [0, *changes.tolist(), len(hold) - 1]
    for begin, end in itertools.pairwise(ends):
        if hold[begin]:
            yield begin, end, int(hold[begin])


def _check(path: Path) -> None:
    """Before anybody waits for what could not be drawn."""
    need("viz", "a plot")
    try:
        if path.suffix.lower() != ".png":
            raise _refused(path, "a name that ends in .png")
        if path.is_dir() or not path.parent.is_dir():
            raise _refused(path, f"a file in a folder that exists, got {path.parent}")
    except OSError as error:
        raise _refused(path, f"a file that can be written, got: {error.strerror}") from None


def _refused(path: Path, expected: str) -> SessionError:
    return SessionError(
        f"--plot {path}: expected {expected}: name another, e.g. --plot /tmp/rt.png"
    )
