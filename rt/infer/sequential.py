"""Sequential mode: plan, execute `policy_update_period` rows of it, stop, plan again.

The same interface as `Asynchronous`; nothing is executed while the policy runs, so there is
neither a leftover nor a delay.
"""

from __future__ import annotations

from rt.arrays import Chunk
from rt.config import RuntimeParams
from rt.infer.plan import Plan, Record
from rt.records import PLANNED_IN, UNSEEN, Hold

STEADY = (Hold.NONE, Hold.WAITING, Hold.WARMUP)  # rows pass, or would, one after the other


class Sequential:
    """Decides from each tick record whether to plan."""

    waits = True
    publish_margin_ns = 0  # control waits for us: it cannot miss the chunk
    late = 0

    def __init__(self, params: RuntimeParams) -> None:
        self._period_ticks = params.policy_update_period * params.ticks_per_row
        self._first_tick = 0  # of the newest chunk
        self._next_tick = 0

    def due(self, record: Record) -> bool:
        """After `policy_update_period` rows, or at once when nothing is being executed."""
        if int(record["phase"]) not in PLANNED_IN or int(record["hold"]) in UNSEEN:
            return False
        tick = int(record["tick"])
        if tick < self._first_tick:
            return False  # the newest chunk is still to come
        return int(record["hold"]) not in STEADY or tick >= self._next_tick

    def plan(self, record: Record) -> Plan:
        """Always cold: the chunk starts at the first tick after it is ready."""
        return Plan(int(record["tick"]), int(record["episode"]))

    def published(
        self, plan: Plan, index: int, first_tick: int, publish_tick: int, actions: Chunk
    ) -> None:
        """The next plan is due after the tick that executes the period's last row."""
        self._first_tick = first_tick
        self._next_tick = first_tick + self._period_ticks - 1

    def adopt(self, index: int, first_tick: int, obs_tick: int, actions: Chunk) -> None:
        """Nothing to take over."""
