"""What the demonstration policy's delta expert is worth: the tracking error with and without it.

On demonstrations: how far a chunk is from what the demonstrator did. In closed loop and simulated
time: a chunk is asked for every REPLAN_ROWS rows and used DELAY_ROWS rows later, as in the
asynchronous modes of the runtime. Of the right arm, which alone does the task; with 95 %
intervals over demonstrations or episodes. Used by train_delta_expert.py.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import train_demo as demo
from numpy.typing import NDArray
from torch import Tensor

from rt.compare.metrics import average
from rt.infer.delta_expert import CONTEXT_ROWS
from rt.infer.denoising import Guide, guided_denoise
from rt.infer.modes import Mode, open_mode
from rt.infer.normalization import Normalizer
from rt.infer.plan import Plan, leftover
from rt.infer.policies.delta_flow import DeltaFlow
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policies.flow_model import FlowModel
from rt.robots.sim.demos import RIGHT_ARM, ROW_S, Planner, Side
from rt.robots.sim.painter import Painter
from rt.robots.sim.world import World
from rt.testing import config

REPLAN_ROWS = 10  # s
DELAY_ROWS = 4  # d
RAMP_LAG_ROWS = 1.5  # a Planner's plan starts from rest, and is so much later than one under way
FIRST_ROW = 5  # of those where that lag is over
SCENE_SEED = 7_000_000  # and up, of worlds that nothing was trained on
SIDES: tuple[Side, Side] = (-1, 1)

Actions = NDArray[np.float64]


class Episode(NamedTuple):
    """What came of one episode."""

    reached: bool
    error_deg: float  # RMS of the chunks asked for on the way, to the demonstrator's nearer way
    broken_deg: float  # RMS of their first N rows to what the chunk in use promised for them
    jump_deg: float  # of the farthest joint at a swap


def measure_tracking(network: DeltaFlow, stats: demo.Stats, samples: Any) -> None:
    """Print the RMS error of chunks on held-out `Samples` of train_delta_expert.py."""
    N = network.action_context_size
    own, said = samples.actions[:, :N], samples.promises[:, 0]
    weights = torch.zeros(network.action_horizon)
    weights[:N] = 1
    with torch.no_grad():
        chunks = {
            "the policy alone": samples.denoised[0],
            "the policy alone, the nearer of two": nearer(samples),
            "pulled to the same rows, rtc": denoise(
                network.network,
                samples.prefix,
                Guide(held(own, network.action_horizon), weights),
            ),
            "delta expert, demonstrated context": with_expert(network, samples, own),
            "delta expert, promised context": with_expert(network, samples, said),
            "delta expert, no context: zeros": with_expert(network, samples, None),
        }
    starts = torch.cat([torch.tensor([True]), samples.demonstration.diff() != 0])
    group = starts.cumsum(0) - 1
    std = stats.action[1]
    print(f"\n{int(group[-1]) + 1} held-out demonstrations, {len(group)} samples; RMS, degrees")
    print(f"{'':36}{'all rows':>16}{f'rows 0-{N - 1}':>16}{f'rows {N}-':>16}")
    for name, chunk in chunks.items():
        error = torch.rad2deg((chunk - samples.actions) * std)[..., RIGHT_ARM].square().mean(-1)
        columns = (error, error[:, :N], error[:, N:])
        print(f"{name:36}" + "".join(f"{interval(rms_of_groups(c, group)):>16}" for c in columns))


def nearer(samples: Any) -> Tensor:
    """(S, H, A): of two of the policy's chunks the one that is nearer to the demonstration, which
    is what it says once it happens to go the same way round."""
    errors = (samples.denoised - samples.actions).square().mean((2, 3))
    chosen: Tensor = samples.denoised[errors.argmin(0), torch.arange(errors.shape[1])]
    return chosen


def with_expert(network: DeltaFlow, samples: Any, action_context: Tensor | None) -> Tensor:
    """(S, H, A): chunks with the expert's word."""
    encoded = network.delta.encode(action_context, like=samples.actions)
    denoised = samples.denoised[0] if network.delta.correction == "add" else None
    return network.delta.chunk(samples.prefix, encoded, denoised)


def denoise(model: FlowModel, prefix: Tensor, guide: Guide | None = None) -> Tensor:
    """(B, H, A): the policy's own chunks."""
    noise = torch.randn(len(prefix), model.action_horizon, model.action_dim)
    velocity = partial(model.velocity, prefix)
    return guided_denoise(velocity, noise, demo.STEPS, guide)


def held(rows: Tensor, length: int) -> Tensor:
    """(S, N, A) to (S, length, A): the last row repeated."""
    return torch.cat([rows, rows[:, -1:].expand(-1, length - rows.shape[1], -1)], dim=1)


def rms_of_groups(error: Tensor, group: Tensor) -> NDArray[np.float64]:
    """The root of the mean of (S, rows) in each group."""
    sums = torch.zeros(int(group[-1]) + 1).index_add(0, group, error.mean(1))
    return (sums / group.bincount()).sqrt().double().numpy()


def interval(values: NDArray[np.float64]) -> str:
    """Mean and half-width of its 95 % interval."""
    mean, _, high = average(values[~np.isnan(values)])
    return "none" if math.isnan(high) else f"{mean:.2f} ± {high - mean:.2f}"


def measure_closed_loop(network: DeltaFlow, episodes: int) -> None:
    """Print what comes of the same scenes with and without the expert, and without a context."""
    normalizer = Normalizer.load(demo.STATS, network.state_dim, network.action_dim)
    delta, shipped = network.delta, network.delta.without_context
    runs = [
        ("the policy alone, naive", network.network, "naive", shipped),
        ("the policy alone, rtc", network.network, "rtc", shipped),
        ("delta expert, cold chunk kept", network, "naive", "keep"),
        ("delta expert, cold chunk from zeros", network, "naive", "zeros"),
    ]
    print(f"\n{episodes} scenes, the same for all; s = {REPLAN_ROWS}, d = {DELAY_ROWS} rows")
    print(f"{'':36}{'reached':>9}" + "".join(f"{name:>16}" for name in Episode._fields[1:]))
    scenes = Painter(demo.WIDTH, demo.HEIGHT), Planner()
    for name, played, algorithm, delta.without_context in runs:
        policy = FlowPolicy({"flow": played}, seed=0)
        mode = open_mode(algorithm, config().params)
        played_episodes = (
            run_episode(SCENE_SEED + number, policy, mode, normalizer, *scenes)
            for number in range(episodes)
        )
        table = np.array(list(demo.bar(played_episodes, episodes, name)), np.float64)
        columns = "".join(f"{interval(column):>16}" for column in table.T[1:])
        print(f"{name:36}{table[:, 0].mean():>9.0%}{columns}")
    delta.without_context = shipped


def run_episode(
    scene: int,
    policy: FlowPolicy,
    mode: Mode,
    normalizer: Normalizer,
    painter: Painter,
    planner: Planner,
) -> Episode:
    """One episode, at most demo.EPISODE_ROWS long."""
    world = World(scene)
    command = world.position
    errors, broken, jumps = list[float](), list[float](), list[float]()
    chunk, first = ask(policy, mode, Plan(0, 0), world, painter, normalizer), 0
    coming, asked = chunk, 0
    for row in range(demo.EPISODE_ROWS):
        if row and row % REPLAN_ROWS == 0:
            rest = leftover(chunk, row - first)
            plan = Plan(row, 0, False, s=row - first, d=DELAY_ROWS, leftover=rest)
            coming, asked = ask(policy, mode, plan, world, painter, normalizer), row
            ways = (error_to(planner, world, command, coming, side) for side in SIDES)
            errors.append(min(ways))
            broken.append(rms_deg((coming - rest)[:CONTEXT_ROWS]))
        if row == asked + DELAY_ROWS and asked > first:
            jump = coming[DELAY_ROWS] - chunk[row - first]
            jumps.append(float(np.degrees(np.abs(jump[RIGHT_ARM]).max())))
            chunk, first = coming, asked
        step = chunk[row - first] - command
        command = command + np.clip(step, -demo.MAX_DELTA_RAD, demo.MAX_DELTA_RAD)
        world.step(command, ROW_S)
        if world.reached or world.touched_post:
            break
    means = (float(np.mean(values)) if values else math.nan for values in (errors, broken, jumps))
    return Episode(world.reached, *means)


def ask(
    policy: FlowPolicy,
    mode: Mode,
    plan: Plan,
    world: World,
    painter: Painter,
    normalizer: Normalizer,
) -> NDArray[np.float32]:
    """(H, 24) rad: the policy's chunk for the world as it is."""
    views = demo.small_views(world, painter)[:, None]
    seen: dict[str, Any] = dict(zip(demo.CAMERAS, views, strict=True))
    seen["proprio"] = world.position[None].astype(np.float32)
    return mode.ask(policy, plan, seen, normalizer)


def error_to(
    planner: Planner,
    world: World,
    command: NDArray[np.float64],
    chunk: NDArray[np.float32],
    side: Side,
) -> float:
    """RMS in degrees of the chunk's later rows to the demonstrator's plan from `command`."""
    late = math.ceil(RAMP_LAG_ROWS)
    plan = planner.plan(command, world.target, world.post, side, len(chunk) + late)
    ahead = (plan[late:] + plan[late - 1 : -1]) / 2  # half a row between: RAMP_LAG_ROWS is 1.5
    return rms_deg(chunk[FIRST_ROW:] - ahead[FIRST_ROW:])


def rms_deg(differences: NDArray[Any]) -> float:
    return float(np.degrees(np.sqrt(np.square(differences[:, RIGHT_ARM]).mean())))
