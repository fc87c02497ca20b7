"""The tick record: filled in place, tick after tick, published by one copy."""

from __future__ import annotations

from rt import clock
from rt.control.episode import Episode
from rt.control.swap import Swap
from rt.control.ticker import Tick
from rt.records import WHY_BYTES, Answer, Hold
from rt.shm import Ring

# What an operator or a configuration wanted is not counted as a hold.
WANTED = (Hold.PAUSED, Hold.STOPPED, Hold.WAITING, Hold.WARMUP)


class Recorder:
    """Counts what happens, and writes the one record of it.

    The counters are Python's: adding to a field of a structured array costs 1.7 us.
    """

    def __init__(self, ticks: Ring, *, dry_run: bool) -> None:
        self.record = ticks.buffer()
        self.record["dry_run"] = dry_run
        self.t_state = 0  # when the state was measured, ns
        self.command_index = -1  # newest order taken from the mailbox
        self.command_answer = Answer.NONE
        self.limited = 0  # joints that a limit changed in this tick
        self.robot_faults = 0
        self._overruns = self._planning = self._holds = self._moves = self._not_finite = 0
        self.why = ""  # of this tick's hold, or of what else it waits for, in words
        self._why = ""  # in the record
        self._ticks = ticks

    def skip(self, skipped: int, *, planned: bool) -> None:
        """Due ticks passed over before this one: planning (sequential mode), or late."""
        if planned:
            self._planning += skipped
        else:
            self._overruns += skipped

    def count_fault(self, error: Exception) -> None:
        """The robot's driver raised."""
        self.robot_faults += 1
        self.why = f"{type(error).__name__}: {error}"

    def _explain(self) -> None:
        why = self.why
        if why != self._why:  # encoded when it changes
            self._why = why
            self.record["why"] = why.encode(errors="replace")[:WHY_BYTES]

    def publish(
        self, tick: Tick, hold: Hold, executing: bool, episode: Episode, swap: Swap
    ) -> None:
        """Count this tick and write its record. `executing`: a row of the chunk was sent."""
        if hold is Hold.NONE and not executing:
            self._moves += 1
        elif hold is not Hold.NONE and hold not in WANTED:
            self._holds += 1
            self._not_finite += hold is Hold.NOT_FINITE
        record = self.record
        record["tick"], record["t_due"], record["t_wake"] = tick
        record["episode"] = episode.number
        record["episode_t_start"] = episode.t_start
        record["valid_from_tick"] = episode.valid_from
        record["t_state"] = self.t_state
        record["phase"] = episode.phase
        record["hold"] = hold
        self._explain()
        record["chunk"] = swap.index
        record["chunk_first_tick"] = swap.first_tick
        record["chunk_first_used_tick"] = swap.first_used_tick
        record["row"] = swap.row if executing else -1.0
        record["command_index"] = self.command_index
        record["command_answer"] = self.command_answer
        record["limited"] = self.limited
        record["overruns"] = self._overruns
        record["planning"] = self._planning
        record["holds"] = self._holds
        record["moves"] = self._moves
        record["not_finite"] = self._not_finite
        record["expired_chunks"] = swap.expired_chunks
        record["robot_faults"] = self.robot_faults
        record["episodes"] = episode.ended
        record["successes"] = episode.successes
        record["success"] = episode.success
        record["prompt"] = episode.prompt
        record["t_done"] = clock.now_ns()
        self._ticks.write(record)
