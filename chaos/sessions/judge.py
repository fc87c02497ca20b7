"""Every tick of a control process, held against what docs/architecture.md says of ticks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tick_log import TickLog, executes

from rt.control.senses import LOST_S
from rt.records import Hold

SILENT = (Hold.NO_STATE, Hold.ROBOT_FAULT)
YIELDING = (Hold.NOT_FOLLOWING, Hold.ROBOT_FAULT)  # the command may go to where the robot is
ROUNDING = 1e-12  # of rad, and of rows


class Judge:
    """Judges the ticks of a log, each once."""

    def __init__(self, log: TickLog) -> None:
        self.log, self._config = log, log.config
        self._lower, self._upper = log.config.lower_rad, log.config.upper_rad
        self._slew = log.config.max_delta_rad_per_tick + ROUNDING
        self._max_error = log.config.max_following_error_rad
        self._judged = 0  # ticks
        self._wrong: list[str] = []
        self._before: Any = None
        self._silent_since = 0  # without a good state, ns; 0: it is not
        self._unseen_since = 0  # without a measurement, though perhaps of a robot with a fault

    @property
    def wrong(self) -> list[str]:
        """What contradicts the document, of all ticks so far."""
        ticks = self.log.ticks
        for tick in ticks[self._judged :]:
            if self._before is not None:
                wrong = [*self._times(tick), *self._choice(tick), *self._command(tick)]
                self._wrong += [f"tick {int(tick['tick'])}: {words}" for words in wrong]
            self._note_silence(tick)
            self._before = tick
        self._judged = len(ticks)
        missed = self.log.statistics.missed
        return self._wrong + [f"{missed} ticks were not seen: look more often"] * (missed > 0)

    def _note_silence(self, tick: Any) -> None:
        if tick["hold"] not in SILENT:
            self._silent_since = 0
        elif not self._silent_since:
            self._silent_since = int(tick["t_wake"])
        if self._is_measured(tick):
            self._unseen_since = 0
        elif not self._unseen_since:
            self._unseen_since = int(tick["t_wake"])

    def _is_measured(self, tick: Any) -> bool:
        age_ms = int(tick["t_wake"] - tick["t_state"]) / 1e6
        return tick["hold"] != Hold.NO_STATE and age_ms <= self._config.robot.max_state_age_ms

    def _is_found(self, tick: Any) -> bool:
        """Whether the robot is back after so long that the command begins where it is."""
        silent, unseen = (
            bool(since) and int(tick["t_wake"]) - since > LOST_S * 1e9
            for since in (self._silent_since, self._unseen_since)
        )
        return self._is_measured(tick) and (unseen or (silent and tick["hold"] not in SILENT))

    def _times(self, tick: Any) -> Iterator[str]:
        before, period = self._before, self._config.period_ns
        ticks = int(tick["tick"] - before["tick"])
        if ticks < 1:
            yield f"came {ticks} after the one before"
        if int(tick["t_due"] - before["t_due"]) != ticks * period:
            yield "was not due a whole number of periods after the one before"
        if tick["t_wake"] < tick["t_due"]:
            yield "came before it was due"
        if tick["t_due"] < before["t_done"]:
            yield "was caught up: it was due before the one before was done"
        if sum(int(tick[name] - before[name]) for name in ("overruns", "planning")) != ticks - 1:
            yield "skipped what it did not count"

    def _choice(self, tick: Any) -> Iterator[str]:
        """Whether it held when it had to, and for the reason that there was."""
        params, hold = self._config.params, Hold(int(tick["hold"]))
        age_ms = int(tick["t_wake"] - tick["t_state"]) / 1e6
        row = int(tick["tick"] - tick["chunk_first_tick"]) / params.ticks_per_row
        if age_ms > self._config.robot.max_state_age_ms:
            if hold not in (*SILENT, Hold.STOPPED):
                yield f"{hold.name} with a state {age_ms:.0f} ms old"
        elif hold is Hold.NO_STATE:
            yield f"NO_STATE with a state {age_ms:.0f} ms old"
        if executes(tick):
            in_chunk = tick["chunk"] >= 0 and 0 <= row < params.action_chunk_size
            if not in_chunk or abs(row - tick["row"]) > ROUNDING:
                yield f"executed row {tick['row']:g} of chunk {int(tick['chunk'])}, not {row:g}"
        if hold is Hold.EXPIRED and row < params.action_chunk_size:
            yield f"EXPIRED at row {row:g}"
        if hold in (Hold.NO_CHUNK, Hold.NOT_DUE) and self._had_chunk(tick):
            yield f"{hold.name}, and yet it had chunk {int(self._before['chunk'])}"
        if hold is Hold.NOT_FOLLOWING and self._before["hold"] not in (*SILENT, hold):
            error = np.abs(self._before["command"] - tick["state"])
            if (error <= self._max_error).all():
                yield "NOT_FOLLOWING, and yet within the limits of the last command"

    def _had_chunk(self, tick: Any) -> bool:
        """Whether there was a chunk in use which nothing has made void since."""
        before = self._before
        if self._is_found(tick) or before["chunk"] < 0:
            return False
        return all(before[name] == tick[name] for name in ("phase", "episode", "valid_from_tick"))

    def _command(self, tick: Any) -> Iterator[str]:
        command, hold = tick["command"], Hold(int(tick["hold"]))
        if np.isnan(command).any():  # until something was sent
            if not np.isnan(self._before["command"]).any():
                yield "a command that is not finite"
            return
        beyond = (command < self._lower) | (command > self._upper)
        if (command != tick["state"])[beyond].any():  # measured there, it is left alone
            yield "a command beyond the position limits"
        found, last = self._is_found(tick), self._before["command"]
        if found or np.isnan(last).any():
            last = tick["state"]
        step = np.abs(command - last)
        if (step > self._slew).any():
            yield f"a step of {np.degrees(step.max()):.2f} deg in {hold.name}"
        if hold not in (Hold.NONE, *YIELDING) and not found and step.any():
            yield f"{hold.name}, and yet the command changed"
