"""Where we are: the phase, the episode, and what the operator asked for.

INITIAL_POSE ──arrived, settled──▶ RUN ──success, time out, next_episode──▶ INITIAL_POSE
     ▲ └──────────── pause ⇄ resume: PAUSED ───────────┘ │
     └────────────────────────────────────────────────────┘   stop: STOPPED, from anywhere

A gated run begins in WAITING, and comes back there when its robot did not follow; `go` leads on.
"""

from __future__ import annotations

from rt.records import Answer, Order, Phase


class Episode:
    """The phase machine. Only control moves it, once per tick.

    Guarantees:
      - `number` is raised when an episode begins, after the motion to the initial pose, so that
        whatever was computed for the episode before can be told apart.
      - `valid_from` is the tick from which observations count: the episode's first tick after its
        warm-up, or the tick after whatever interrupted it.
    """

    def __init__(
        self, length_ticks: int, settle_ticks: int, *, warmup_ticks: int = 0, gated: bool = False
    ) -> None:
        """`length_ticks` 0: an episode has no end. `settle_ticks` at the initial pose before it,
        `warmup_ticks` of it are not executed. `gated`: nothing moves before `go`."""
        self.phase = Phase.WAITING if gated else Phase.INITIAL_POSE
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
        self._warmup = warmup_ticks
        self._gated = gated
        self._interrupted_phase = Phase.INITIAL_POSE
        self._interrupted_tick = 0

    def obey(self, order: Order, text: bytes, k: int) -> Answer:
        """Take one order from the operator at tick `k`."""
        if order is Order.STOP:
            self.phase = Phase.STOPPED
        elif order is Order.PAUSE and self.phase in (Phase.RUN, Phase.INITIAL_POSE):
            self._interrupt(Phase.PAUSED, k)
        elif (order is Order.RESUME and self.phase is Phase.PAUSED) or (
            order is Order.GO and self.phase is Phase.WAITING
        ):
            self.phase = self._interrupted_phase
            self._began_tick += k - self._interrupted_tick  # which costs the episode no time
            self.start_afresh(k)
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

    def warm_up_left(self, k: int) -> int:
        """Ticks from `k` on that are the episode's first, which are not executed."""
        return max(0, self._began_tick + self._warmup - k)

    def start_afresh(self, k: int) -> None:
        """What was observed before tick `k`, or during the warm-up, is void."""
        self.valid_from = max(k, self._began_tick + self._warmup)

    def await_go(self, k: int) -> None:
        """The robot is not as we left it: a gated run waits for another `go`."""
        if self._gated and self.phase in (Phase.RUN, Phase.INITIAL_POSE):
            self._interrupt(Phase.WAITING, k)

    def _interrupt(self, phase: Phase, k: int) -> None:
        self._interrupted_phase, self.phase = self.phase, phase
        self._interrupted_tick = k

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
        self.start_afresh(k)
