"""The inference process: load the policy, warm it up, then a chunk whenever one is due.

Owns the accelerator. Sleeps to the next tick's due time and then polls the tick ring, so that
control never has to wake it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from signal import SIGKILL
from typing import TypeVar

import numpy as np

from rt import child, clock
from rt.child import Status
from rt.config import Config
from rt.errors import NoAnswerError
from rt.infer import fit
from rt.infer.loader import build_policy, torch_device
from rt.infer.modes import open_mode
from rt.infer.normalization import Normalizer
from rt.infer.pinned import pinned_zeros
from rt.infer.pipeline import Pipeline
from rt.infer.plan import Record
from rt.infer.policy_config import load_policy_config
from rt.infer.statistics_check import check_statistics
from rt.session import Session
from rt.shm import Ring

T = TypeVar("T")

POLL_NS = 200_000
# Between looks at the tick ring: at 1 kHz control it need not wake for every tick.
SHORTEST_LOOK_NS = 5_000_000
PAUSE_NS = 1_000_000_000  # between two attempts at a policy that nobody serves


def open_pipeline(config: Config, session: Session, status: Status) -> Pipeline:
    """Load and warm up, telling how far it is. Any failure is fatal."""
    policy_path = config.run.policy_yaml_path
    device = ""
    if load_policy_config(policy_path).components:
        status.write("loading", progress=0.05, detail="importing torch")
        device = torch_device(threads=len(config.run.other_cores))
    where = f" on {device}" if device else ""
    status.write("loading", progress=0.4, detail=f"building the policy{where}")
    policy = reached(session, status, lambda: build_policy(policy_path, device or "cpu"))
    fit.check(policy, config)
    mode = open_mode(config.run.algorithm, config.params)
    mode.check(policy, policy_path)
    zeros = pinned_zeros if device == "cuda" else np.zeros
    pipeline = Pipeline(config, session, policy, open_normalizer(config), mode, zeros)
    status.write("warming up", progress=0.6, detail="first inferences")
    policy.warmup()
    status.write("warming up", progress=0.8, detail="measuring a chunk")
    seconds = reached(session, status, pipeline.warm_up)
    if hasattr(policy, "described"):
        where = f": {policy.described}"
    status.write("ready", detail=f"{seconds * 1000:.0f} ms a chunk{where}")
    return pipeline


def reached(session: Session, status: Status, attempt: Callable[[], T]) -> T:
    """What `attempt` gives. Where a policy on another machine gives no answer it is tried again, if
    control runs already: then this process was restarted, and control holds.

    Raises NoAnswerError at the start of a session.
    """
    with closing(session.reader("tick")) as ticks:
        while True:
            try:
                return attempt()
            except NoAnswerError as error:
                if not ticks.head:
                    raise
                status.write("loading", progress=0.4, detail=f"waiting for the policy: {error}")
                clock.sleep_until(clock.now_ns() + PAUSE_NS)


def open_normalizer(config: Config) -> Normalizer:
    """By the runtime's statistics, else the policy's, else none."""
    params, policy = config.params, load_policy_config(config.run.policy_yaml_path)
    stats = params.norm_stats_file_path or policy.norm_stats_path
    normalizer = policy.normalizer(stats, params.proprio_state_dim, params.action_dim)
    if stats:
        check_statistics(normalizer, config, str(stats))
    return normalizer


class TickFeed:
    """The newest tick record, waited for without anybody waking us."""

    def __init__(self, ticks: Ring, period_ns: int) -> None:
        self.record: Record = ticks.buffer()
        self._ticks = ticks
        self._index = -1
        self._stride_ns = max(1, SHORTEST_LOOK_NS // period_ns) * period_ns

    def next(self) -> bool:
        """Wait, bounded, for a record newer than the last, and read it. False: none came."""
        if self._index >= 0:
            clock.sleep_until(int(self.record["t_due"]) + self._stride_ns)
        patience = clock.now_ns() + self._stride_ns
        while self._ticks.head <= self._index + 1:
            now = clock.now_ns()
            if now > patience:
                return False
            clock.sleep_until(now + POLL_NS)
        index = self._ticks.read_latest(self.record)
        if index is None:
            return False
        self._index = index
        return True


def run(session: Session, status: Status) -> None:
    """Load, then serve until killed."""
    config = session.config()
    pipeline = open_pipeline(config, session, status)
    ticks = TickFeed(session.reader("tick"), config.period_ns)
    while True:
        if ticks.next():
            pipeline.step(ticks.record)
        pipeline.tell(status)


if __name__ == "__main__":
    sys.exit(child.start(run, on_orphaned=SIGKILL))
