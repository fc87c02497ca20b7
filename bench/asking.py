"""Robots that ask a policy server for chunks as IGRIS_B does, without the rest of a robot.

Each is a thread with a `RemotePolicy`: the real client, with the observation, the leftover and the
timing of a robot whose policy is elsewhere. That they share one interpreter makes their exchanges a
little longer, whoever answers.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from launched import ROOT, marked
from numpy.typing import NDArray

from rt.errors import NoAnswerError
from rt.infer.normalization import Normalizer
from rt.infer.policies.remote_policy import RemotePolicy
from rt.records import Outcome
from rt.wire.protocol import Result

PARAMS = json.loads((ROOT / "configs/robots/igris_b/inference_runtime_params.json").read_text())
HZ, H, A = PARAMS["HZ"], PARAMS["action_chunk_size"], PARAMS["action_dim"]
S = PARAMS["min_num_actions_executed"]  # rows between two requests
DEADLINE_MS = 1000.0  # as in configs/policies/remote/policy.yaml
IDENTITY = Normalizer.identity()


class Exchange(NamedTuple):
    """A request, and what came of it."""

    t_s: float  # when it was over, time.monotonic()
    took_s: float
    outcome: Outcome
    batch: int  # chunks that were computed together


class Asked(NamedTuple):
    """What robots met in `seconds`."""

    seconds: float
    exchanges: list[Exchange]
    cpu_s: float  # of the server's processes

    @property
    def took_ms(self) -> NDArray[np.float64]:
        """Of each chunk that came."""
        return np.array([1e3 * e.took_s for e in self.exchanges if e.outcome == Outcome.OK])

    def figures(self) -> dict[str, Any]:
        """To be kept."""
        took, count = self.took_ms, len(self.took_ms)
        batches = Counter(e.batch for e in self.exchanges if e.outcome == Outcome.OK)
        return {
            "chunks": count,
            "asked": len(self.exchanges),
            "outcomes": {o.name: n for o, n in Counter(e.outcome for e in self.exchanges).items()},
            "per_s": count / self.seconds,
            "p50_ms": float(np.percentile(took, 50)) if count else None,
            "p99_ms": float(np.percentile(took, 99)) if count else None,
            "batches": {str(size): n for size, n in sorted(batches.items())},
            "cpu_ms": 1e3 * self.cpu_s / count if count else None,
        }


class Robot(RemotePolicy):
    """Remembers with how many others its chunk was computed."""

    batch = 0

    def _result(self, answer: bytes | str) -> Result:
        result = super()._result(answer)
        self.batch = result.batch
        return result


def ask_often(url: str, robots: int, seconds: float, *, at_once: bool, mark: str) -> Asked:
    """So many robots ask `url`, each for its next chunk when S rows are executed.

    at_once: each as soon as it has its answer, however long that takes.
    mark: VARIABLE=WORD in the environment of the server's processes.
    """
    pace_s = 0.0 if at_once else S / HZ
    exchanges: list[list[Exchange]] = [[] for _ in range(robots)]
    ready, over = threading.Barrier(robots + 1), threading.Event()

    def run(number: int) -> None:
        deadline_ms = 20_000 if at_once else DEADLINE_MS
        robot = Robot({}, url=url, deadline_ms=deadline_ms, connect_timeout_s=30, seed=number)
        random = np.random.default_rng(number)
        seen = observation(random)
        try:
            ready.wait(60)
            due = time.monotonic() + pace_s * random.uniform()
            while not over.wait(max(due - time.monotonic(), 0)):
                exchange = one(robot, seen)
                exchanges[number].append(exchange)
                again = pace_s if exchange.outcome == Outcome.OK else 1 / HZ
                due = max(exchange.t_s - exchange.took_s + again, exchange.t_s)
        finally:
            ready.abort()  # who waits for one that will not come
            robot.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(robots)]
    for thread in threads:
        thread.start()
    ready.wait(60)
    time.sleep(max(pace_s, 0.5))  # until all are under way
    begin, before = time.monotonic(), cpu_s(mark)
    time.sleep(seconds)
    end, spent = time.monotonic(), cpu_s(mark) - before
    over.set()
    for thread in threads:
        thread.join()
    counted = [e for own in exchanges for e in own if begin <= e.t_s < end]
    return Asked(end - begin, counted, spent)


def one(robot: Robot, seen: dict[str, Any]) -> Exchange:
    """One exchange, guided."""
    began = time.monotonic()
    try:
        robot.guided_inference(dict(seen), IDENTITY, S, H)
        outcome = Outcome.OK
    except NoAnswerError as error:
        outcome = error.outcome
    now = time.monotonic()
    return Exchange(now, now - began, outcome, robot.batch)


def observation(random: np.random.Generator) -> dict[str, Any]:
    """What one of them sees, with a leftover."""
    size = PARAMS["mono_image_resize"]
    images = (PARAMS["num_img_obs"], 3, size["height"], size["width"])
    return {
        "proprio": random.normal(0, 0.1, (1, PARAMS["proprio_state_dim"])).astype(np.float32),
        **{name: random.integers(0, 256, images, np.uint8) for name in PARAMS["camera_names"]},
        "prev_action": random.normal(0, 0.1, (H, A)).astype(np.float32),
        "est_delay": 5,
    }


def cpu_s(mark: str) -> float:
    """What the processes with that word in their environment have computed so far."""
    spent = 0
    for pid in marked(mark):
        with suppress(OSError):  # it has gone
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent += int(stat[11]) + int(stat[12])
    return spent / os.sysconf("SC_CLK_TCK")
