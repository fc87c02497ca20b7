"""A recording told in a page, and once more through a policy: its own gives what was sent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from launched import run_module
from making import Simulate
from recorded import RecordedSession
from shm_names import fresh_name

from rt.arrays import Chunk
from rt.config import Config
from rt.config.schema import Algorithm
from rt.errors import ConfigError, PolicyError
from rt.infer.normalization import Normalizer
from rt.infer.observation import past_states
from rt.record.reading import Recording
from rt.record.recorder import Recorder
from rt.records import Hold, Order, Phase
from rt.replay.differences import differences, holds, seam_jumps
from rt.replay.summary import summary
from rt.replay.through import Replayed, replay, replay_config
from rt.testing import TWO_ARMS, FakeClock, FakeRobot, SimulatedRun, config

MODES: tuple[Algorithm, ...] = get_args(Algorithm)
JOINTS = 24


class Swinging:
    """From where the joints were and are it swings on; it keeps to a leftover as far as told."""

    modes = MODES
    action_context_size = 2

    def __init__(self) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.resets = 0

    def predict(self, input_data: dict[str, Any], normalizer: Normalizer) -> Chunk:
        self.inputs.append(input_data)
        proprio = input_data["proprio"]
        went = proprio[-1] - proprio[0]
        rows = np.arange(8)[:, None]
        context = input_data.get("action_context", np.zeros((2, JOINTS))).mean()
        chunk = proprio[-1] + 0.05 * np.sin(rows + 7 * proprio[-1]) + 0.1 * went + 0.01 * context
        return np.asarray(normalizer.denormalize_action(chunk), np.float32)

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Normalizer, s: int, horizon: int
    ) -> Chunk:
        chunk, d = self.predict(input_data, normalizer), input_data["est_delay"]
        chunk[: d + 1] = input_data["prev_action"][: d + 1]
        return chunk + np.float32(0.001 * s)

    def reset(self) -> None:
        self.resets += 1


VALUES: dict[str, Any] = {
    "joint_groups": TWO_ARMS,
    "proprio_history_size": 3,
    "warmup_ticks": 3,
    "max_following_error_deg": 20.0,
}


def eventful(simulate: Simulate, **overrides: Any) -> SimulatedRun:
    """Three episodes of a robot that lags, with all that may interrupt them."""
    clock = FakeClock(lateness_ns=(3_000_000 * (n % 4) for n in range(10_000)))

    def observe(record: Any) -> dict[str, Any]:
        return {"proprio": past_states(record, np.stack(run.ticks[-20:]), 3, 1)}

    run = simulate(
        config(**(VALUES | overrides)),
        observe=observe,
        policy=Swinging(),
        delay=lambda n: 1.5 + n * 7 % 5 * 0.5,
        busy=lambda k: 2.3 if k % 41 == 40 and not run.mode.planner.waits else 0.0,
        robot=FakeRobot([0.1] * JOINTS, clock=clock, share=0.6),
        clock=clock,
    )
    run.tick(100)
    with_trouble(run, 5, reading="none")
    for order in (Order.PAUSE, Order.RESUME, Order.NEXT_EPISODE):
        run.order(order)
        run.tick(30)
    run.tick(60)
    with_trouble(run, 2, raising={"publish_action"})
    with_trouble(run, 3, fault="a joint is hot")
    with_trouble(run, 30, reading="none")  # for longer than a second: it is lost, and found
    run.robot.position += 0.5  # somebody pushes it
    run.tick(40)
    with_trouble(run, 1, success=True)
    run.order(Order.PROMPT, b"other")
    run.tick(100)
    return run


def with_trouble(run: SimulatedRun, ticks: int, **trouble: Any) -> None:
    """So many ticks of it, and 20 after it."""
    before = {name: getattr(run.robot, name) for name in trouble}
    for name, value in trouble.items():
        setattr(run.robot, name, value)
    run.tick(ticks)
    for name, value in before.items():
        setattr(run.robot, name, value)
    run.tick(20)


def record_run(
    run: SimulatedRun, folder: Path, frames: dict[str, Any] | None = None, **overrides: Any
) -> Recording:
    """A recording of what happened in it. overrides: of the run's configuration."""
    with (
        RecordedSession(**(VALUES | overrides)) as session,
        Recorder(session.session, folder) as recorder,
    ):
        for name, captured in (frames or {}).items():
            for t_ns, image in captured:
                session.publish(f"frame.{name}", t_capture=t_ns, image=image)
                recorder.step()
        for chunk in run.chunks:
            session.publish("chunk", chunk)
            recorder.step()
        for tick in run.ticks:
            session.publish("tick", tick)
            if int(tick["tick"]) % 500 == 0:
                recorder.step()
    return Recording(recorder.output.path)


def replayed(
    recording: Recording,
    policy: Any,
    mode: Algorithm,
    delay_ms: float | None = None,
    normalizer: Normalizer | None = None,
) -> Replayed:
    wanted = replay_config(recording, "/policy.yaml", mode)
    return replay(recording, wanted, policy, normalizer or Normalizer.identity(), delay_ms)


# The proof.


@pytest.mark.parametrize("mode", MODES)
def test_its_own_policy_and_mode_send_what_was_sent(
    simulate: Simulate, tmp_path: Path, mode: Algorithm
) -> None:
    run = eventful(simulate, algorithm=mode)
    recording = record_run(run, tmp_path, algorithm=mode)
    policy = Swinging()
    again = replayed(recording, policy, mode)
    assert again.ticks["tick"].tolist() == recording.ticks["tick"].tolist()
    for name in ("hold", "phase", "row", "chunk", "command", "target", "limited", "prompt"):
        np.testing.assert_array_equal(again.ticks[name], recording.ticks[name], err_msg=name)
    assert len(again.chunks) == len(run.chunks)
