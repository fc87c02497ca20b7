"""From one tick record to one published chunk: plan, observe, infer, check, join, publish.

Guarantees:
  - A chunk that is not (H, A), not finite, or whose policy raised, is dropped and counted; control
    never sees it. What is none of the policy's doing (NoAnswerError) may happen for ever.
  - A chunk is complete before it is published, and its `first_tick` follows
    docs/architecture.md.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from rt import clock
from rt.arrays import Chunk
from rt.child import Status
from rt.clock import Ticks
from rt.config import Config
from rt.errors import NoAnswerError, PolicyError
from rt.infer.modes import Mode
from rt.infer.normalization import Normalizer
from rt.infer.observation import Observer, Zeros, example_observation
from rt.infer.plan import Plan, Record
from rt.infer.policy import Policy
from rt.records import POLICY_PARTS, Outcome
from rt.session import Session

# A policy that raises this often in a row is broken (a lost GPU, say): a fresh process may not be.
FAILURES_IN_A_ROW = 10
POLICY_TIMES = [f"{part}_ns" for part in POLICY_PARTS]
NO_OUTCOMES = (0,) * len(Outcome)  # of a policy that is here


class Pipeline:
    """Runs the policy whenever the algorithm says so."""

    def __init__(
        self,
        config: Config,
        session: Session,
        policy: Policy,
        normalizer: Normalizer,
        mode: Mode,
        zeros: Zeros = np.zeros,
    ) -> None:
        """zeros: the memory for images; see `Observer`."""
        params = config.params
        self.observer = Observer(config, session, zeros)
        self.dropped = 0  # chunks that it did not publish
        self.problem = ""  # why the last one was not
        self._failures = 0
        self._episode = -1
        self._config = config
        self._policy = policy
        self._normalizer = normalizer
        self._mode = mode
        self._shape = (params.action_chunk_size, params.action_dim)
        self._chunks = session.writer("chunk")
        self._chunk = self._chunks.buffer()
        self._adopt_newest()
        self._chunk["mode"] = mode.name.encode()

    def _adopt_newest(self) -> None:
        """After a restart: go on from the chunk that control may still be executing."""
        index = self._chunks.read_latest(self._chunk)
        self._restarted = index is not None
        if index is not None:
            self._mode.planner.adopt(
                index,
                int(self._chunk["first_tick"]),
                int(self._chunk["obs_tick"]),
                self._chunk["actions"].copy(),
            )

    @property
    def late(self) -> int:
        """Chunks whose counted delay exceeded the planned one."""
        return self._mode.planner.late

    def warm_up(self, runs: int = 3) -> float:
        """Run the path that will be used, on an example observation; returns seconds per chunk.

        Raises PolicyError if the policy's chunk has the wrong shape, or, at the start of a session,
        is too slow for H and s_min. What it takes here stays out of the delay estimate.
        """
        params = self._config.params
        observation = example_observation(self._config)
        s = params.min_num_actions_executed
        plan = Plan(0, 0, cold=False, s=s, leftover=np.zeros(self._shape, np.float32))
        took = []
        for _ in range(runs):
            start = time.perf_counter()
            actions = self._infer(plan, dict(observation))
            took.append(time.perf_counter() - start)
            if problem := self._problem_with(actions):
                raise PolicyError(f"{self._config.run.policy_yaml_path}: {problem}")
        seconds = sorted(took)[len(took) // 2]
        if self._restarted:  # it was fast enough at the start; d tells what it is now
            return seconds
        rows = int(np.ceil(seconds * params.HZ))
        if not self._mode.planner.waits and rows > params.action_chunk_size - s:
            raise PolicyError(
                f"a chunk takes {seconds * 1000:.0f} ms ({rows} rows at {params.HZ:g} Hz) in "
                f"warm-up{self._networks_share()}, but action_chunk_size "
                f"{params.action_chunk_size} - min_num_actions_executed {s} leaves "
                f"{params.action_chunk_size - s} rows: lower min_num_actions_executed or HZ, or "
                "take a faster policy"
            )
        if 2 * seconds > params.inference_timeout_s:
            raise PolicyError(
                f"a chunk takes {seconds:.1f} s in warm-up, but inference_timeout_s is "
                f"{params.inference_timeout_s:g} s, after which an inference counts as stalled: "
                "set it to at least twice what a chunk takes"
            )
        return seconds

    def _networks_share(self) -> str:
        """Of the last chunk, in words; "" where the policy is here."""
        network_ns = getattr(self._policy, "latency", {}).get("network_ns", 0)
        return f", {network_ns / 1e6:.0f} ms of it the network's" if network_ns else ""

    def step(self, record: Record) -> bool:
        """Infer and publish if it is time. True: the policy ran, whatever came of it."""
        if not self._mode.planner.due(record):
            return False
        t_start = clock.now_ns()
        observation = self.observer.observe(record)
        if observation is None:
            return False
        self._tell_of_new_episode(int(record["episode"]))
        plan = self._mode.planner.plan(record)
        t_observed = clock.now_ns()
        try:
            self.problem = self._take(plan, self._infer(plan, observation))
            self._failures = 0
        except NoAnswerError as error:  # a new process would get no other answer
            self.problem = str(error)
            return True  # counted by the policy, in `outcomes`
        except Exception as error:  # a policy's fault costs one chunk, not the process
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                raise
            self.problem = f"{type(error).__name__}: {error}"
        if self.problem:
            self.dropped += 1
            return True
        self._publish(record, plan, t_start, t_observed)
        return True

    def tell(self, status: Status) -> None:
        """How inference fares: its counters, and what it waits for or what was wrong last."""
        status.count(self.late, self.dropped, getattr(self._policy, "outcomes", NO_OUTCOMES))
        status.write("ready", detail=self.observer.waiting_for or self.problem)

    def _tell_of_new_episode(self, episode: int) -> None:
        """A policy may carry state from chunk to chunk, but not from episode to episode."""
        reset = getattr(self._policy, "reset", None)
        if episode != self._episode and reset is not None:
            reset()
        self._episode = episode

    def _infer(self, plan: Plan, observation: dict[str, Any]) -> Chunk:
        """What the policy gives, (H, A) if all is well. Includes `--inject_delay_ms`."""
        actions = self._mode.ask(self._policy, plan, observation, self._normalizer)
        time.sleep(self._config.run.inject_delay_ms / 1000)
        return actions

    def _take(self, plan: Plan, actions: Chunk) -> str:
        """Join the policy's chunk with the leftover, in the chunk record. What is wrong with it."""
        if problem := self._problem_with(actions):
            return problem
        with np.errstate(invalid="ignore", over="ignore"):  # looked for below
            self._chunk["actions"], self._chunk["weights"] = self._mode.join(plan, actions)
        finite = np.isfinite(self._chunk["actions"]).all()
        return "" if finite else "the policy gave a chunk that is not finite"

    def _problem_with(self, actions: Chunk) -> str:
        if not isinstance(actions, np.ndarray) or actions.shape != self._shape:
            got = actions.shape if isinstance(actions, np.ndarray) else type(actions).__name__
            return (
                f"the policy gave a chunk of {got}, expected {self._shape} "
                "(action_chunk_size, action_dim of the runtime params)"
            )
        if not np.issubdtype(actions.dtype, np.floating):
            return f"the policy gave a chunk of dtype {actions.dtype}, expected float32"
        return ""

    def _publish(self, record: Record, plan: Plan, t_start: int, t_observed: int) -> None:
        chunk = self._chunk
        t_inferred = clock.now_ns()
        period = self._config.period_ns
        ticks = Ticks(epoch_ns=int(record["t_due"]) - plan.obs_tick * period, period_ns=period)
        plan.write_to(chunk)
        chunk["t_start"], chunk["observe_ns"] = t_start, t_observed - t_start
        latency = {"denoise_ns": t_inferred - t_observed} | getattr(self._policy, "latency", {})
        for name in POLICY_TIMES:
            chunk[name] = latency.get(name, 0)
        now = clock.now_ns()
        first_tick = plan.first_tick(ticks, now + self._mode.planner.publish_margin_ns)
        chunk["first_tick"] = first_tick
        chunk["t_publish"], chunk["publish_ns"] = now, now - t_inferred
        index = self._chunks.write(chunk)
        self._mode.planner.published(
            plan, index, first_tick, ticks.next_after(clock.now_ns()), chunk["actions"].copy()
        )
