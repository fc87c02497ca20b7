"""A session's figures, followed and told as Prometheus families.

Guarantees:
  - Reads the rings through attachments of its own and registers nothing: no writer can notice it.
  - `update` and `collect` may be called from any thread, also after `close`: then nothing is told.
Assumptions:
  - `update` is called often enough that no ring comes round; what was missed is a counter.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import Metric
from prometheus_client.registry import Collector

from rt import clock
from rt.config import Config
from rt.metrics.families import ONE, Families, Labels
from rt.records import OVER, PARTS, Hold, Outcome, camera_child, text
from rt.session import Session
from rt.statistics import Distribution, TickStatistics
from rt.tail import Tail

TICK_S = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)
INFERENCE_S = (1e-4, 1e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
DELAY_ROWS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)

# Control counts these itself, so they are right whatever was missed here. By field of its record.
COUNTERS = {
    "overruns": ("rt_overruns", "Due ticks skipped because control was late."),
    "planning": ("rt_planning_skips", "Due ticks skipped while sequential mode was planning."),
    "holds": ("rt_holds", "Ticks held, but for the operator and for the warm-up."),
    "moves": ("rt_moves", "Ticks spent on the way to the initial pose."),
    "not_finite": ("rt_not_finite", "Ticks whose row was not finite."),
    "expired_chunks": ("rt_chunks_expired", "Chunks that came after their last row was due."),
    "robot_faults": ("rt_robot_faults", "Reads or sends that the robot failed."),
    "episodes": ("rt_episodes", "Episodes ended."),
    "successes": ("rt_episodes_successful", "Episodes ended with success."),
}


class Figures(Collector):
    """Follows one session; `collect` gives all families as of now."""

    def __init__(
        self, session: Session, config: Config, restarts: Callable[[], Mapping[str, int]]
    ) -> None:
        """restarts: process → how often it was restarted. Raises SegmentMissingError."""
        self._config, self._restarts = config, restarts
        self._make = Families(session.name)
        self._lock = threading.Lock()  # a ring object is for one thread at a time
        self._closed = False
        frames = [f"frame.{camera}" for camera in config.params.camera_names]
        self._processes = [
            n.removeprefix("status.") for n in session.rings() if n.startswith("status.")
        ]
        names = ["tick", "chunk", *frames, *(f"status.{name}" for name in self._processes)]
        self._rings = {name: session.reader(name) for name in names}
        # By ring its newest record, and another to read the next one into.
        self._records = {n: (ring.buffer(), ring.buffer()) for n, ring in self._rings.items()}
        self._statistics = TickStatistics(self._rings["tick"])
        self._chunks = Tail(self._rings["chunk"])
        self._held = np.zeros(len(Hold), np.int64)  # ticks by reason
        self._whole = Distribution()  # inferences
        self._parts: dict[Labels, Distribution] = {(part,): Distribution() for part in PARTS}
        self._planned: Counter[int] = Counter()  # chunks by their delay d, rows
        self._counted: Counter[int] = Counter()

    def update(self) -> None:
        """Take in what is new."""
        with self._lock:
            if not self._closed:
                self._take()

    def collect(self) -> list[Metric]:
        """All families; none once closed."""
        with self._lock:
            if self._closed:
                return []
            self._take()
            return list(self._families())

    def close(self) -> None:
        """Leave the rings; waits for a `collect` that is under way."""
        with self._lock:
            self._closed = True
            for ring in self._rings.values():
                ring.close()

    def _take(self) -> None:
        ticks = self._statistics.update()
        self._held += np.bincount(ticks["hold"], minlength=len(Hold))[: len(Hold)]
        chunks = self._chunks.new()
        self._whole.add(chunks["t_publish"] - chunks["t_start"])
        for (part,), took in self._parts.items():
            took.add(chunks[f"{part}_ns"])
        self._planned.update(chunks["d_planned"][chunks["cold"] == 0].tolist())
        counted = chunks["previous_d_counted"]
        self._counted.update(counted[counted >= 0].tolist())

    def _families(self) -> Iterator[Metric]:
        make, run = self._make, self._config.run
        what: dict[Labels, float] = {(self._config.robot.name, run.algorithm, run.io): 1.0}
        yield make.gauge("rt_session_info", "What runs; 1.", what, ("robot", "algorithm", "io"))
        yield from self._of_ticks()
        yield from self._of_chunks()
        yield make.gauge("rt_sensor_age_seconds", "Since it measured.", self._ages(), ("sensor",))
        yield from self._of_processes()
        words = "Records overwritten unread: the histograms and rt_held_ticks lack them."
        missed: dict[Labels, float] = {
            ("tick",): self._statistics.missed,
            ("chunk",): self._chunks.missed,
        }
        yield make.counter("rt_records_missed", words, missed, ("ring",))

    def _of_ticks(self) -> Iterator[Metric]:
        make, last = self._make, self._statistics.last
        for name, words, took in (
            ("rt_wake_error_seconds", "How late control woke.", self._statistics.wake_error),
            ("rt_tick_work_seconds", "What a tick's work took.", self._statistics.work),
        ):
            yield make.durations(name, words, {ONE: took}, TICK_S)
        held: dict[Labels, float] = {
            (hold.name.lower(),): int(self._held[hold]) for hold in Hold if hold
        }
        yield make.counter("rt_held_ticks", "Ticks held, whatever for.", held, ("reason",))
        for field, (name, words) in COUNTERS.items():
            yield make.counter(name, words, {ONE: int(last[field]) if last is not None else 0})

    def _of_chunks(self) -> Iterator[Metric]:
        make, status = self._make, self._newest("status.inference")
        for name, words, count in (
            ("rt_chunks", "Chunks published.", self._rings["chunk"].head),
            ("rt_chunks_late", "Chunks that came later than planned.", status["late"]),
            ("rt_chunks_dropped", "Chunks that inference refused.", status["dropped"]),
        ):
            yield make.counter(name, words, {ONE: int(count)})
        outcomes: dict[Labels, float] = {
            (outcome.name.lower(),): int(status["outcomes"][outcome]) for outcome in Outcome
        }
        words = "What came of asking a policy on another machine for a chunk."
        yield make.counter("rt_requests", words, outcomes, ("outcome",))
        words = "The delay d that a chunk was planned for."
        yield make.rows("rt_delay_planned_rows", words, self._planned, DELAY_ROWS)
        words = "The delay d with which a chunk came."
        yield make.rows("rt_delay_counted_rows", words, self._counted, DELAY_ROWS)
        whole = {ONE: self._whole}
        yield make.durations("rt_inference_seconds", "A whole inference.", whole, INFERENCE_S)
        words = "Each part of an inference."
        yield make.durations(
            "rt_inference_part_seconds", words, self._parts, INFERENCE_S, ("part",)
        )

    def _ages(self) -> dict[Labels, float]:
        """Of the robot's state and of each camera, those that have measured."""
        last = self._statistics.last
        times = {"state": last["t_state"] if last is not None else 0}
        for camera in self._config.params.camera_names:
            times[camera_child(camera)] = self._newest(f"frame.{camera}")["t_capture"]
        now = clock.now_ns()
        return {(name,): (now - int(t)) / 1e9 for name, t in times.items() if t}

    def _of_processes(self) -> Iterator[Metric]:
        make, now = self._make, clock.now_ns()
        states: dict[Labels, float] = {}
        ages: dict[Labels, float] = {}
        for name in self._processes:
            status = self._newest(f"status.{name}")
            if not status["pid"]:
                continue  # not started yet
            state, beat = text(status["state"]), int(status["heartbeat"])
            if state not in OVER and not Path(f"/proc/{status['pid']}").exists():
                state = "gone"
            states[name, state] = 1.0
            if name == "control" and self._statistics.last is not None:
                beat = int(self._statistics.last["t_done"])  # it beats by its ticks
            if beat:
                ages[name,] = (now - beat) / 1e9
        words = "What a process said last that it does, or gone; 1."
        yield make.gauge("rt_process_state", words, states, ("process", "state"))
        words = "Since a process last said that it lives."
        yield make.gauge("rt_process_heartbeat_age_seconds", words, ages, ("process",))
        restarts: dict[Labels, float] = {(name,): count for name, count in self._restarts().items()}
        words = "How often a process was started again."
        yield make.counter("rt_process_restarts", words, restarts, ("process",))

    def _newest(self, name: str) -> Any:
        """A ring's newest record; while there is none, all its fields are 0."""
        newest, other = self._records[name]
        if self._rings[name].read_latest(other) is None:
            return newest
        self._records[name] = other, newest
        return other
