"""Where we are: the phase, the episode, and what the operator asked for.

INITIAL_POSE ──arrived, settled──▶ RUN ──success, time out, next_episode──▶ INITIAL_POSE
     ▲ └──────────── pause ⇄ resume: PAUSED ───────────┘ │
     └────────────────────────────────────────────────────┘   stop: STOPPED, from anywhere
"""

from __future__ import annotations

from rt.records import Answer, Order, Phase


class Episode:
    """The phase machine. Only control moves it, once per tick.

    Guarantees:
      - `number` is raised when an episode begins, after the motion to the initial pose, so that
        whatever was computed for the episode before can be told apart.
      - `valid_from` is the tick from which observations count: the episode's first tick, or the
        tick after a pause.
    """

    def __init__(self, length_ticks: int, settle_ticks: int) -> None:
        """`length_ticks` 0: an episode has no end. `settle_ticks` at the initial pose before it."""
        self.phase = Phase.INITIAL_POSE
        self.number = 0
        self.valid_from = 0
        self.t_start = 0  # ns
        self.success = False
        self.ended = 0  # counter
        self.successes = 0  # counter
        self.prompt = b""
        self._length = length_ticks
        self._settle = settle_ticks
        self._began_tick = 0
        self._arrived_tick = -1
        self._paused_phase = Phase.RUN
        self._paused_tick = 0

    def obey(self, order: Order, text: bytes, k: int) -> Answer:
        """Take one order from the operator at tick `k`."""
        if order is Order.STOP:
            self.phase = Phase.STOPPED
        elif order is Order.PAUSE and self.phase in (Phase.RUN, Phase.INITIAL_POSE):
            self._paused_phase, self.phase = self.phase, Phase.PAUSED
            self._paused_tick = k
        elif order is Order.RESUME and self.phase is Phase.PAUSED:
            self.phase = self._paused_phase
            self.valid_from = k
            self._began_tick += k - self._paused_tick  # a pause costs the episode no time
        elif order is Order.SUCCESS and self.phase is Phase.RUN:
            self.end(success=True)
        elif order is Order.NEXT_EPISODE and self.phase is Phase.RUN:
            self.end(success=False)
        elif order is Order.PROMPT:
            self.prompt = text
        else:
            return Answer.REFUSED
        return Answer.DONE

    def advance(self, k: int, *, succeeded: bool) -> None:
        """End a running episode that succeeded or ran out of time."""
        if self.phase is Phase.RUN and (
            succeeded or (self._length and k - self._began_tick >= self._length)
        ):
            self.end(success=succeeded)

    def end(self, *, success: bool) -> None:
        """Leave the episode; back to the initial pose."""
        self.success = success
        self.ended += 1
        self.successes += success
        self.phase = Phase.INITIAL_POSE
        self._arrived_tick = -1

    def arrived(self, k: int) -> bool:
        """At the initial pose. True the first time, when the scene is to be prepared."""
        first = self._arrived_tick < 0
        if first:
            self._arrived_tick = k
        return first

    def settled(self, k: int) -> bool:
        """Long enough at the initial pose."""
        return self._arrived_tick >= 0 and k - self._arrived_tick >= self._settle

    def begin(self, k: int, now_ns: int) -> None:
        """A new episode starts with tick `k`."""
        self.number += 1
        self.phase = Phase.RUN
        self.success = False
        self.t_start = now_ns
        self._began_tick = k
        self.valid_from = k
