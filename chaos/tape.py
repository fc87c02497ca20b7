"""Every tick of a control process, held against what docs/architecture.md says of ticks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.records import Hold, Phase
from rt.session import Session
from rt.statistics import TickStatistics

LOST_NS = 1_000_000_000  # silent for longer, a robot may have been moved
SILENT = (Hold.NO_STATE, Hold.ROBOT_FAULT)
YIELDING = (Hold.NOT_FOLLOWING, Hold.ROBOT_FAULT)  # the command may go to where the robot is
ROUNDING_RAD = 1e-12


class Tape:
    """Reads the tick ring: call `read` every minute at least."""

    def __init__(self, session: Session) -> None:
        self.config = session.config()
        self.ring = session.reader("tick")
        self.statistics = TickStatistics(self.ring)
        self.holds: Counter[str] = Counter()  # ticks, by their reason
        self.wrong: list[str] = []  # what contradicts the documents
        self._before: Any = None
        self._silent_since = 0  # without a good state, ns; 0: it is not
        self._unseen_since = 0  # without a measurement, though perhaps of a robot with a fault

    def read(self) -> NDArray[np.void]:
        """Judge what is new; returns it, oldest first."""
        new = self.statistics.update()
        if self.statistics.missed:
            self.wrong.append(f"{self.statistics.missed} ticks were not seen: read more often")
        for tick in new:
            if hold := Hold(int(tick["hold"])):
                self.holds[hold.name] += 1
            if self._before is not None:
                wrong = [*self._times(tick), *self._choice(tick), *self._command(tick)]
                self.wrong += [f"tick {int(tick['tick'])}: {words}" for words in wrong]
            self._note_silence(tick)
            self._before = tick.copy()
        return new

    @property
    def executes(self) -> bool:
        """Whether the last tick read executed a row."""
        last = self._before
        return last is not None and last["phase"] == Phase.RUN and last["hold"] == Hold.NONE

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
        return tick["hold"] != Hold.NO_STATE and age_ms <= self.config.robot.max_state_age_ms

    def _is_found(self, tick: Any) -> bool:
        """Whether the robot is back after so long that the command begins where it is."""
        silent, unseen = (
            bool(since) and int(tick["t_wake"]) - since > LOST_NS
            for since in (self._silent_since, self._unseen_since)
        )
        return self._is_measured(tick) and (unseen or (silent and tick["hold"] not in SILENT))

    def _times(self, tick: Any) -> Iterator[str]:
        before, period = self._before, self.config.period_ns
        ticks = int(tick["tick"] - before["tick"])
        if ticks < 1:
            yield f"came {ticks} after the one before"
        if int(tick["t_due"] - before["t_due"]) != ticks * period:
            yield "was not due a whole number of periods after the one before"
        if tick["t_wake"] < tick["t_due"]:
            yield "came before it was due"
        if tick["t_wake"] < before["t_done"]:
            yield "began before the one before was done"

    def _choice(self, tick: Any) -> Iterator[str]:
        """Whether it held when it had to, and for the reason that there was."""
        hold, horizon = Hold(int(tick["hold"])), self.config.params.action_chunk_size
        age_ms = int(tick["t_wake"] - tick["t_state"]) / 1e6
        row = int(tick["tick"] - tick["chunk_first_tick"])
        if age_ms > self.config.robot.max_state_age_ms:
            if hold not in (*SILENT, Hold.STOPPED):
                yield f"{hold.name} with a state {age_ms:.0f} ms old"
        elif hold is Hold.NO_STATE:
            yield f"NO_STATE with a state {age_ms:.0f} ms old"
        executed = hold is Hold.NONE and tick["phase"] == Phase.RUN
        if executed and (tick["chunk"] < 0 or not 0 <= row < horizon or row != tick["row"]):
            yield f"executed row {row} of chunk {int(tick['chunk'])}"
        if hold is Hold.EXPIRED and row < horizon:
            yield f"EXPIRED at row {row}"

    def _command(self, tick: Any) -> Iterator[str]:
        command, hold = tick["command"], Hold(int(tick["hold"]))
        if np.isnan(command).any():
            return  # nothing was ever sent
        if (command < self.config.lower_rad).any() or (command > self.config.upper_rad).any():
            yield "a command beyond the position limits"
        found, last = self._is_found(tick), self._before["command"]
        if found or np.isnan(last).any():
            last = tick["state"]
        step = np.abs(command - last)
        if (step > self.config.max_delta_rad_per_tick + ROUNDING_RAD).any():
            yield f"a step of {np.degrees(step.max()):.2f} deg in {hold.name}"
        if hold not in (Hold.NONE, *YIELDING) and not found and step.any():
            yield f"{hold.name}, and yet the command changed"
