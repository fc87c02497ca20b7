"""Control and inference together, in simulated time.

The control loop, the modes with their bookkeeping and the rings are the real ones. The clock is a
fake; robot and policy are, unless others are given. Everything happens in one thread and repeats
exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rt.clock import Ticks
from rt.config import Config
from rt.control.loop import ControlLoop
from rt.control.ticker import Tick, Ticker
from rt.errors import PolicyError
from rt.infer.modes import Mode, open_mode
from rt.infer.normalization import Normalizer
from rt.infer.plan import Plan, Record
from rt.infer.policy import Policy
from rt.records import COMMAND, Hold, Order, chunk_dtype, tick_dtype
from rt.session import Lock, Session
from rt.testing.fakes import FakeClock, FakeRobot, ScriptedPolicy


class Inference(NamedTuple):
    """One inference, under way."""

    plan: Plan
    actions: Any
    t_publish: int


def proprio_only(record: Record) -> dict[str, Any]:
    """The newest state, (1, state_dim), and no images."""
    return {"proprio": np.asarray(record["state"], np.float32)[None]}


class SimulatedRun:
    """Control and inference in simulated time. A context manager: it removes its rings.

    Inference n (from 1) starts with the record that makes it due. Its chunk is published
    `delay(n)` ticks after that record's tick was due: 2.5 is midway between the second and the
    third tick that follow. Tick k's work takes `busy(k)` ticks: with 1 or more, ticks are skipped.
    In sequential mode the run's one thread plans, so no tick happens meanwhile.

    `observe`: the policy's observation of a tick record; by default its state alone.

    `look_every`: ticks between two looks of inference at the newest (`rt.infer.process.TickFeed`).

    `instant`: a tick executes what was planned from its own measurement. That is d = 0, which no
    running robot reaches: its inference sees a tick when its command has been sent.
    """

    def __init__(
        self,
        config: Config,
        *,
        delay: Callable[[int], float] = lambda n: 2.5,
        busy: Callable[[int], float] = lambda k: 0.0,
        instant: bool = False,
        look_every: int = 1,
        policy: Policy | None = None,
        observe: Callable[[Record], dict[str, Any]] = proprio_only,
        normalizer: Normalizer | None = None,
        robot: FakeRobot | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        params = config.params
        horizon, joints = params.action_chunk_size, params.action_dim
        self.config = config
        self.clock = clock or FakeClock()
        self.robot = robot or FakeRobot([0.0] * joints, clock=self.clock)
        self.robot.initial = config.initial_rad
        self.policy: Any = policy or ScriptedPolicy(action_chunk_size=horizon, action_dim=joints)
        self.ticks: list[Record] = []  # every tick record
        self.looked: list[Record] = []  # those that inference looked at
        self.plans: list[Plan] = []  # of every inference
        self.chunks: list[Record] = []  # every chunk record, by ring index
        self.dropped = 0  # chunks that were not published
        self._observe = observe
        self._normalizer = normalizer or Normalizer.identity()
        self._delay = delay
        self._busy = busy
        self._instant = instant
        self._under_way: Inference | None = None
        self._planned = False
        self._session = Session(config.run.session)
        self._lock = Lock(self._session.name, "supervisor")  # so that nobody cleans it up as dead
        self._session.create(
            {
                "tick": (tick_dtype(params.proprio_state_dim, joints), 8),
                "chunk": (chunk_dtype(horizon, joints), 8),
                "command": (COMMAND, 8),
            }
        )
        self._chunk_ring = self._session.writer("chunk")
        self._command_ring = self._session.writer("command")
        self._tick_ring = self._session.writer("tick")
        self._tick_reader = self._session.reader("tick")
        self._chunk_reader = self._session.reader("chunk")
        self._order_reader = self._session.reader("command")
        self.robot.start_state_readers()
        self.loop = ControlLoop(
            config,
            self.robot,
            ticks=self._tick_ring,
            chunks=self._chunk_reader,
            commands=self._order_reader,
        )
        self.ticker = Ticker(
            config.period_ns, now_ns=self.clock.now_ns, sleep_until=self.clock.sleep_until
        )
        self.mode = self._new_mode()
        self._look_every = 1 if self.mode.planner.waits else look_every
        self._look_at = 0

    def tick(self, count: int = 1) -> Record:
        """Do `count` ticks, and what inference does meanwhile. Returns the last one's record."""
        for _ in range(count):
            self._tick()
        return self.ticks[-1]

    def order(self, order: Order | int, text: bytes = b"") -> int:
        """Put an order into the mailbox, for the next tick. Returns its index."""
        record = self._command_ring.buffer()
        record["order"], record["text"], record["t_sent"] = order, text, self.clock.t_ns
        return self._command_ring.write(record)

    def restart_inference(self) -> None:
        """Inference was killed, with what was under way, and a new one goes on."""
        self._under_way = None
        self.mode = self._new_mode()
        if self.chunks:
            newest = self.chunks[-1]
            first_tick, obs_tick = int(newest["first_tick"]), int(newest["obs_tick"])
            self.mode.planner.adopt(len(self.chunks) - 1, first_tick, obs_tick, newest["actions"])

    def close(self) -> None:
        """Leave the rings and remove them."""
        self.robot.shutdown()
        for ring in (
            self._chunk_ring,
            self._command_ring,
            self._tick_ring,
            self._tick_reader,
            self._chunk_reader,
            self._order_reader,
        ):
            ring.close()
        self._session.clean()
        self._lock.release()

    def __enter__(self) -> SimulatedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_mode(self) -> Mode:
        return open_mode(self.config.run.algorithm, self.config.params)

    def _tick(self) -> None:
        tick = self.ticker.wait()
        if tick is None:  # a simulated run is never told to stop waiting
            return
        self._publish_until(tick.t_wake)
        self.robot.tick = tick.k
        if self._instant and self.ticks:
            self._infer(self._foreseen(tick))
            self._publish_until(tick.t_wake + 1)
        self.loop.tick(tick, skipped=self.ticker.skipped, planned=self._planned)
        record = self._tick_reader.buffer()
        self._tick_reader.read_latest(record)
        self.ticks.append(record)
        self.clock.advance(round(self._busy(tick.k) * self.ticker.period_ns))
        if not self._instant:
            self._planned = self._infer(record)

    def _foreseen(self, tick: Tick) -> Record:
        """The record of a tick as far as it is known before its command is chosen."""
        record = self.ticks[-1].copy()
        record["tick"], record["t_due"], record["t_wake"] = tick
        record["state"] = self.robot.read_state().position
        if self.chunks and int(self.chunks[-1]["first_tick"]) == tick.k:  # it ends a hold
            record["hold"], record["chunk"] = Hold.NONE, len(self.chunks) - 1
        return record

    def _infer(self, record: Record) -> bool:
        """Start an inference if one is due. True: this thread spent its time on it."""
        if self._under_way is not None or int(record["tick"]) < self._look_at:
            return False
        self._look_at = int(record["tick"]) + self._look_every
        self.looked.append(record)
        if not self.mode.planner.due(record):
            return False
        with np.errstate(invalid="ignore", over="ignore"):  # the chunk in use may hold nonsense
            plan = self.mode.planner.plan(record)
        self.plans.append(plan)
        try:
            observation = self._observe(record)
            actions: Any = self.mode.ask(self.policy, plan, observation, self._normalizer)
        except PolicyError:
            actions = None
        ticks = self._delay(len(self.plans))
        t_publish = int(record["t_due"]) + max(1, round(ticks * self.ticker.period_ns))
        self._under_way = Inference(plan, actions, t_publish)
        if not self.mode.planner.waits:
            return False
        self.clock.t_ns = max(self.clock.t_ns, t_publish)
        self._publish_until(t_publish)
        return True

    def _publish_until(self, t_ns: int) -> None:
        """Publish the chunk under way if it is ready by `t_ns`. Unlike `rt.infer.pipeline` this
        lets NaN through: control must not trust inference."""
        done = self._under_way
        if done is None or done.t_publish > t_ns:
            return
        self._under_way = None
        ticks = Ticks(self.ticker.epoch_ns, self.ticker.period_ns)
        self._look_at = ticks.at(done.t_publish) + self._look_every
        if np.shape(done.actions) != self._chunk_ring.dtype["actions"].shape:
            self.dropped += 1
            return
        plan = done.plan
        first_tick = plan.first_tick(ticks, done.t_publish + self.mode.planner.publish_margin_ns)
        chunk = self._chunk_ring.buffer()
        plan.write_to(chunk)
        chunk["first_tick"], chunk["mode"] = first_tick, self.mode.name.encode()
        chunk["t_publish"] = done.t_publish
        with np.errstate(invalid="ignore"):
            chunk["actions"], chunk["weights"] = self.mode.join(plan, done.actions)
        index = self._chunk_ring.write(chunk)
        self.chunks.append(chunk)
        publish_tick = ticks.next_after(done.t_publish)
        self.mode.planner.published(plan, index, first_tick, publish_tick, chunk["actions"].copy())
