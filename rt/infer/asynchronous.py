"""Real-Time Chunking's bookkeeping, over ticks: when to infer, what is left over, which delay.

Every mode in which the robot goes on meanwhile keeps its books like this.

Algorithm 1 of arXiv 2506.07339. At the observation's tick k, with `first` the tick of the chunk
in use:

    s = clip((k - first) / ticks_per_row, 0, H)    rows of it that have been executed
    leftover = A_cur[s:]                           what will go on while we compute
    d = clip(max(counted delays), 0, H - s)        rows that will be executed meanwhile

The new chunk starts at tick k. Its delay is counted afterwards, from the tick records: the first
tick that used it, minus k. Nothing here looks at a clock.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from rt.arrays import Chunk
from rt.config import RuntimeParams
from rt.infer.plan import Plan, Record, leftover
from rt.records import PLANNED_IN, UNSEEN, Hold, counted_delay

REMEMBERED = 4  # published chunks that may still be in use


class Published(NamedTuple):
    """A chunk that we sent to control."""

    chunk: int  # its ring index
    first_tick: int  # s_min counts from here: the observation, or a cold chunk's first tick
    obs_tick: int
    publish_tick: int  # the first tick due after it was published
    cold: bool
    d_planned: int
    actions: Chunk


class Asynchronous:
    """Decides from each tick record whether to infer, and how."""

    waits = False
    # A cold chunk starts at the first tick due this long after publication: control must have
    # time to see it, or the chunk would be entered at its second row.
    publish_margin_ns = 500_000

    def __init__(self, params: RuntimeParams) -> None:
        self.late = 0  # chunks whose counted delay exceeded the planned one
        self._horizon = params.action_chunk_size
        self._s_min = params.min_num_actions_executed
        self._ticks_per_row = params.ticks_per_row
        self._initial_delay = params.initial_delay
        self._delays: deque[int] = deque(maxlen=params.delay_window)
        self._published: dict[int, Published] = {}
        self._newest: Published | None = None
        self._counted = -1  # the newest chunk's delay, once counted

    @property
    def delay(self) -> int:
        """The delay to plan with, rows: the longest of the window."""
        return max(self._delays) if self._delays else self._initial_delay

    def due(self, record: Record) -> bool:
        """Whether the next inference is to start from this record."""
        if int(record["phase"]) not in PLANNED_IN or int(record["hold"]) in UNSEEN:
            return False
        tick, newest = int(record["tick"]), self._newest
        if newest is None or newest.obs_tick < int(record["valid_from_tick"]):
            return True  # an older episode's, or from before a pause, is as none
        if tick < max(newest.publish_tick, newest.first_tick):
            return False  # control has not been able to use the newest chunk yet
        if int(record["hold"]) != Hold.NONE:
            return True
        return tick >= newest.first_tick + self._s_min * self._ticks_per_row

    def plan(self, record: Record) -> Plan:
        """Count the newest chunk's delay, then plan the next inference from this record."""
        self._count_delay(record)
        obs_tick, episode = int(record["tick"]), int(record["episode"])
        in_use = self._published.get(int(record["chunk"]))
        if int(record["hold"]) != Hold.NONE or in_use is None:
            return Plan(obs_tick, episode, previous_d_counted=self._counted)
        executed = (obs_tick - in_use.first_tick) / self._ticks_per_row
        s = min(max(math.ceil(executed), 0), self._horizon)
        return Plan(
            obs_tick=obs_tick,
            episode=episode,
            cold=False,
            s=s,
            d=min(self.delay, self._horizon - s),
            previous_chunk=in_use.chunk,
            previous_obs_tick=in_use.obs_tick,
            leftover=leftover(in_use.actions, executed),
            previous_d_counted=self._counted,
        )

    def published(
        self, plan: Plan, index: int, first_tick: int, publish_tick: int, actions: Chunk
    ) -> None:
        """The chunk of `plan` is in the ring as sample `index`."""
        self._newest = Published(
            chunk=index,
            first_tick=first_tick,
            obs_tick=plan.obs_tick,
            publish_tick=publish_tick,
            cold=plan.cold,
            d_planned=plan.d,
            actions=actions,
        )
        self._counted = -1
        self._published[index] = self._newest
        while len(self._published) > REMEMBERED:
            del self._published[min(self._published)]

    def adopt(self, index: int, first_tick: int, obs_tick: int, actions: Chunk) -> None:
        """Take over a chunk that an earlier inference process published; its delay was its own."""
        self._newest = Published(index, first_tick, obs_tick, first_tick, True, 0, actions)
        self._published[index] = self._newest

    def _count_delay(self, record: Record) -> None:
        """d of the newest chunk: rows of the old one that were executed before its first use.

        A chunk that was never used counts with its publication tick; a cold one does not count,
        since nothing was being executed.
        """
        newest = self._newest
        if newest is None or newest.cold or self._counted >= 0:
            return
        used = int(record["chunk"]) == newest.chunk
        tick = int(record["chunk_first_used_tick"]) if used else -1
        if tick < 0:
            tick = newest.publish_tick
        self._counted = counted_delay(newest.first_tick, tick, self._ticks_per_row)
        self._delays.append(self._counted)
        self.late += self._counted > newest.d_planned
