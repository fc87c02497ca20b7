"""The six modes, one name each: when to infer, and how a new chunk joins the one being executed.

mode                  while we infer     the new chunk's rows, where the leftover reaches
sequential            the robot waits    as the policy gives them
naive                 the chunk goes on  as the policy gives them: they may jump
blend                 the chunk goes on  W · leftover + (1 − W) · new
temporal_ensembling   the chunk goes on  the weighted mean of all chunks that foresaw that tick
rtc                   the chunk goes on  denoised under the leftover's pull (W)
prefix                the chunk goes on  denoised behind the leftover's first d rows, kept clean

`rtc` with `schedule: zeros` has a hard mask; with `vjp: false`, the identity for the Jacobian.
Control knows none of this: a chunk is a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rt.arrays import Chunk, Weights
from rt.config import RuntimeParams
from rt.config.schema import Algorithm
from rt.errors import PolicyError
from rt.infer.asynchronous import REMEMBERED, Asynchronous
from rt.infer.inpainting import Schedule, compute_guided_prefix_weights
from rt.infer.normalization import Normalizer
from rt.infer.plan import Plan, Record
from rt.infer.policy import COMMON_MODES, GuidanceOptions, Policy
from rt.infer.sequential import Sequential


class Planner(Protocol):
    """When to infer, and from which leftover: `Asynchronous`, `Sequential`."""

    waits: bool  # nothing is executed while the policy runs
    late: int  # chunks whose counted delay exceeded the planned one
    publish_margin_ns: int

    def due(self, record: Record) -> bool: ...
    def plan(self, record: Record) -> Plan: ...
    def published(
        self, plan: Plan, index: int, first_tick: int, publish_tick: int, actions: Chunk
    ) -> None: ...
    def adopt(self, index: int, first_tick: int, obs_tick: int, actions: Chunk) -> None: ...


Weigh = Callable[[Plan, int], Weights]  # (plan with a leftover, H) → (H,)


def by_schedule(schedule: Schedule) -> Weigh:
    """The prefix weights W of Eq. 5 and its variants."""

    def weigh(plan: Plan, horizon: int) -> Weights:
        return compute_guided_prefix_weights(plan.d, plan.s, horizon, schedule=schedule)

    return weigh


class Ensemble:
    """Each row's share of the old in a mean over every chunk that foresaw it (ACT, 2304.13705).

    The i-th oldest of them weighs exp(−coefficient · i). The leftover is already such a mean, so
    all there is to remember is how many chunks went into each row.
    """

    def __init__(self, coefficient: float) -> None:
        self._coefficient = coefficient
        self._counts: dict[int, np.ndarray[Any, np.dtype[np.intp]]] = {}  # obs_tick → (H,)

    def __call__(self, plan: Plan, horizon: int) -> Weights:
        old = self._counts.get(plan.previous_obs_tick, np.ones(horizon, np.intp))
        kept = horizon - plan.s
        counts = np.zeros(horizon, np.intp)
        counts[:kept] = old[plan.s :]
        self._counts[plan.obs_tick] = counts + 1
        while len(self._counts) > REMEMBERED:
            del self._counts[min(self._counts)]
        # In units of the newest chunk's weight, so that what overflows is a share of 1.
        with np.errstate(over="ignore"):
            old_ones = np.cumsum(np.exp(self._coefficient * np.arange(1, counts.max() + 1)))
        total = np.concatenate([[0.0], old_ones])[counts]
        shares: Weights = (1 - 1 / (1 + total)).astype(np.float32)
        return shares


@dataclass(frozen=True)
class Mode:
    """When the policy is asked, what it is told of the leftover, what becomes of its chunk."""

    name: Algorithm
    planner: Planner
    weigh: Weigh | None = None  # how strongly each row is tied to the leftover; None: not at all
    guidance: GuidanceOptions | None = None  # None: the policy is told nothing of the leftover
    mixes: bool = False  # the leftover's share is mixed in afterwards

    def check(self, policy: Policy, place: str) -> None:
        """Raises PolicyError if that policy (of the YAML `place`) cannot serve this mode."""
        served = getattr(policy, "modes", COMMON_MODES)
        if self.name not in served:
            why = getattr(policy, "modes_why", "")
            raise PolicyError(
                f"{place}: this policy cannot run in the mode {self.name!r}: expected "
                f"--inference_algorithm to be one of {', '.join(served)}" + (why and f": {why}")
            )

    def ask(
        self, policy: Policy, plan: Plan, observation: dict[str, Any], normalizer: Normalizer
    ) -> Chunk:
        """The policy's chunk for this plan. What it is told is added to `observation`."""
        if rows := getattr(policy, "action_context_size", 0):
            context = plan.upcoming(rows)
            observation |= {} if context is None else {"action_context": context}
        if plan.leftover is None or self.guidance is None:
            return policy.predict(observation, normalizer)
        observation |= {
            "est_delay": plan.d,
            "prev_action": plan.leftover,
            "guidance": self.guidance,
        }
        return policy.guided_inference(observation, normalizer, plan.s, len(plan.leftover))

    def join(self, plan: Plan, actions: Chunk) -> tuple[Chunk, Weights]:
        """What is published of the policy's `actions` (H, A), float32, and how strongly each of
        its rows is tied to the leftover, (H,)."""
        actions = actions.astype(np.float32)
        if plan.leftover is None or self.weigh is None:
            return actions, np.zeros(len(actions), np.float32)
        weights = self.weigh(plan, len(actions))
        if self.mixes:
            actions += weights[:, None] * (plan.leftover - actions)
        return actions, weights


def open_mode(algorithm: Algorithm, params: RuntimeParams) -> Mode:
    """The mode of that name, at its beginning."""
    if algorithm == "sequential":
        return Mode(algorithm, Sequential(params))
    planner = Asynchronous(params)
    if algorithm == "naive":
        return Mode(algorithm, planner)
    if algorithm == "blend":
        return Mode(algorithm, planner, by_schedule(params.schedule), mixes=True)
    if algorithm == "temporal_ensembling":
        return Mode(algorithm, planner, Ensemble(params.temporal_ensemble_coeff), mixes=True)
    if algorithm == "prefix":
        guidance = GuidanceOptions(schedule="zeros", prefix=True)
    else:
        guidance = GuidanceOptions(
            schedule=params.schedule,
            max_guidance_weight=params.max_guidance_weight,
            vjp=params.vjp,
        )
    return Mode(algorithm, planner, by_schedule(guidance.schedule), guidance)
