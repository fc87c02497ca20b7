"""Inference as it went: the policy that is tried, at the times of the recorded inferences."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt.arrays import Chunk
from rt.delays import swaps
from rt.errors import ConfigError, PolicyError
from rt.infer.plan import Record
from rt.record.reading import Recording
from rt.records import Hold
from rt.replay.past import Past
from rt.replay.views import Views
from rt.testing import SimulatedRun


def chunk_problem(actions: Any, shape: tuple[int, int]) -> str:
    """What is wrong with a policy's chunk; "" if nothing is."""
    if not isinstance(actions, np.ndarray) or actions.shape != shape:
        got = actions.shape if isinstance(actions, np.ndarray) else type(actions).__name__
        return f"it gave a chunk of {got}"
    if not np.issubdtype(actions.dtype, np.floating):
        return f"it gave a chunk of dtype {actions.dtype}"
    return ""


class Inference:
    """The policy, with what the inference process does for it: observations, resets, and that a
    chunk which is none costs no more than itself. It takes the recorded time."""

    def __init__(self, recording: Recording, policy: Any, delay_ms: float | None) -> None:
        config = recording.config
        self.past = Past(recording.ticks, config.period_ns)
        self.run: SimulatedRun
        self.refused = 0
        self._policy = policy
        self._views = Views(recording)
        self._shape = (config.params.action_chunk_size, config.params.action_dim)
        self._given = None if delay_ms is None else delay_ms * config.control_hz / 1000
        self._recorded = sorted(
            Recorded(int(c["obs_tick"]), int(c["t_start"]), seen)
            for c, seen in zip(
                recording.chunks.values(), seen_at(recording.ticks, recording.chunks), strict=True
            )
        )
        if self._given is None and not self._recorded:
            raise ConfigError(
                f"{recording.path}: expected chunks, whose delays can be taken, got none: say how "
                "long an inference takes with --delay_ms N"
            )
        self._obs_ticks = np.array([recorded.obs_tick for recorded in self._recorded])
        self._episode = -1
        self._saw = False  # the last observation was one

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)  # what a policy may have besides

    def observe(self, record: Record) -> dict[str, Any]:
        """The observation of a tick record, the newest. Raises PolicyError if there is none."""
        k = int(record["tick"])
        now_ns = self.run.clock.t_ns
        if (nearest := self._nearest(k)) is not None:  # as long after its tick as that one began
            began = nearest.t_start - self.past.times.due(nearest.obs_tick)
            now_ns = max(now_ns, self.past.times.due(k) + began)
        observation = self._views.observe(self.run.ticks, now_ns)
        self._saw = observation is not None
        if observation is None:
            raise PolicyError("no frame")
        episode, reset = int(record["episode"]), getattr(self._policy, "reset", None)
        if episode != self._episode and reset is not None:
            reset()
        self._episode = episode
        return observation

    def predict(self, *args: Any) -> Chunk:
        """As the policy's."""
        return self._checked(self._policy.predict, *args)

    def guided_inference(self, *args: Any) -> Chunk:
        """As the policy's."""
        return self._checked(self._policy.guided_inference, *args)

    def _checked(self, infer: Any, *args: Any) -> Chunk:
        try:
            actions: Chunk = infer(*args)
            problem = chunk_problem(actions, self._shape)
            if not problem and not np.isfinite(actions).all():
                problem = "it gave a chunk that is not finite"
        except Exception as error:  # a policy's fault costs one chunk
            problem = f"{type(error).__name__}: {error}"
        if problem:
            self.refused += 1
            raise PolicyError(problem)
        return actions

    def delay(self, n: int) -> float:
        """Ticks from the newest observation's tick to its chunk."""
        if not self._saw:
            return 0.0  # the next tick looks again
        if self._given is not None:
            return self._given
        nearest = self._nearest(self.run.plans[-1].obs_tick)
        assert nearest is not None  # refused at the beginning
        due = self.past.times.due(nearest.obs_tick)
        return (nearest.t_seen - due) / self.past.times.period_ns

    def _nearest(self, k: int) -> Recorded | None:
        """The recorded inference whose observation is nearest to tick `k`; None: there is none."""
        if not self._recorded:
            return None
        return self._recorded[int(np.abs(self._obs_ticks - k).argmin())]


class Recorded(NamedTuple):
    """One recorded inference."""

    obs_tick: int
    t_start: int  # it began, ns
    t_seen: int  # control could see its chunk, ns


def seen_at(ticks: NDArray[Any], chunks: dict[int, Any]) -> list[int]:
    """When control could see each chunk, ns: at its publication, unless the tick that used it first
    tells that it missed it a moment before, or saw it a moment after it woke."""
    seen = {index: int(chunk["t_publish"]) for index, chunk in chunks.items()}
    place = {int(tick): i for i, tick in enumerate(ticks["tick"])}
    for tick in swaps(ticks):
        index, i = int(tick["chunk"]), place[int(tick["tick"])]
        # A cold one waits for its first tick, and a hold may have kept one from being looked at.
        if index in seen and not chunks[index]["cold"] and i and ticks["hold"][i - 1] == Hold.NONE:
            before, woke = int(ticks["t_wake"][i - 1]), int(tick["t_wake"])
            seen[index] = min(max(seen[index], before + 1), woke)
    return list(seen.values())
