"""A recording once more, through a policy in a mode: what would have been sent.

The control loop, the modes and the rings are the real ones, in simulated time (`SimulatedRun`). The
states and the images are the recorded ones and DO NOT REACT to what is sent now: the further the
commands go from the recorded ones, the less it says. Nor do phases and episodes: they are as they
were, and so are the ticks in which the robot gave no state, had a fault or was yielded to.

An inference takes as long as the recorded one that began nearest to it, or as long as it is told.
A recording that begins in the middle of a session begins without a chunk here.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from rt.config import Config
from rt.config.schema import Algorithm
from rt.errors import ConfigError, PolicyError
from rt.infer.modes import open_mode
from rt.infer.normalization import Normalizer
from rt.infer.observation import example_observation
from rt.infer.plan import Plan
from rt.infer.process import SHORTEST_LOOK_NS
from rt.record.reading import Recording
from rt.replay.inference import Inference, chunk_problem
from rt.replay.past import Past, PastClock, PastEpisode, PastFollowing, PastRobot
from rt.testing import SimulatedRun


class Replayed(NamedTuple):
    """What came of it."""

    config: Config
    ticks: NDArray[Any]  # (n,) tick records
    chunks: dict[int, Any]  # index → chunk record
    refused: int  # chunks that no process would have published


def replay_config(recording: Recording, policy_yaml_path: str, algorithm: Algorithm) -> Config:
    """The recording's configuration with another policy and mode."""
    run = structs.replace(
        recording.config.run,
        session=f"replay-{os.getpid()}",
        algorithm=algorithm,
        policy_yaml_path=policy_yaml_path,
    )
    return structs.replace(recording.config, run=run)


def replay(
    recording: Recording,
    config: Config,
    policy: Any,
    normalizer: Normalizer,
    delay_ms: float | None = None,
) -> Replayed:
    """Run the whole recording. config: of `replay_config`. delay_ms: from each observation's tick
    to its chunk; None: as recorded.

    Raises ConfigError if there is nothing to go through, PolicyError if the policy does not fit.
    """
    if not len(recording.ticks):
        raise ConfigError(f"{recording.path}: expected ticks to go through, got none")
    check_fits(config, policy, normalizer)
    inference = Inference(recording, policy, delay_ms)
    past = inference.past
    clock = PastClock(past)
    robot = PastRobot(past, clock)
    with SimulatedRun(
        config,
        delay=inference.delay,
        busy=past.busy,
        # When it wakes, the tick that is due then is not done yet: it sees the one before.
        look_every=max(1, SHORTEST_LOOK_NS // config.period_ns - 1),
        policy=inference,
        observe=inference.observe,
        normalizer=normalizer,
        robot=robot,
        clock=clock,
    ) as run:
        inference.run = run
        run.loop.episode = PastEpisode(past)
        run.loop.following = PastFollowing(config, robot)
        _begin(run, past)
        while not run.ticks or int(run.ticks[-1]["tick"]) < past.last:
            run.loop.approach.over()  # where it leads to, the recording says anew in each tick
            run.tick()
        return Replayed(config, np.stack(run.ticks), dict(enumerate(run.chunks)), inference.refused)


def _begin(run: SimulatedRun, past: Past) -> None:
    """Wait for the recording's first tick; what was sent before it is where the limits start."""
    run.clock.t_ns = past.times.due(past.first) - 1
    command = past.ticks["command"][0]
    if past.first and np.isfinite(command).all():
        run.loop.sender.start_from(command)


def check_fits(config: Config, policy: Any, normalizer: Normalizer) -> None:
    """Raises PolicyError unless the policy gives a chunk of the recording's dims in this mode."""
    params, place = config.params, config.run.policy_yaml_path
    mode = open_mode(config.run.algorithm, params)
    mode.check(policy, place)
    shape = (params.action_chunk_size, params.action_dim)
    s = params.min_num_actions_executed
    plan = Plan(0, 0, cold=False, s=s, leftover=np.zeros(shape, np.float32))
    try:
        actions = mode.ask(policy, plan, example_observation(config), normalizer)
        problem = chunk_problem(actions, shape)
    except Exception as error:  # whatever a policy raises for an observation that it does not know
        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
    if problem:
        raise PolicyError(
            f"{place}: expected a policy that fits the recording: chunks of {shape} "
            f"(action_chunk_size, action_dim), a state of {params.proprio_state_dim}, cameras "
            f"{', '.join(params.camera_names) or 'none'}; got another: {problem}"
        )
