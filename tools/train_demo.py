"""Train the demonstration policy from nothing: demonstrations, flow matching, evaluation.

    python tools/train_demo.py                  # about 20 minutes on two cores
    python tools/train_demo.py --evaluate 100   # only evaluate what is there

The network is what configs/policies/flow_demo/components/flow.yaml says. Writes that folder's
checkpoints/flow.safetensors and norm_stats.json. Needs the extra `sim`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or a busy machine slows training tenfold

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from rt import cli
from rt.infer.policies.flow_model import FlowModel
from rt.robots.sim.demos import ROW_S, Demonstration, Planner
from rt.robots.sim.painter import Painter
from rt.robots.sim.world import World

FOLDER = Path(__file__).parents[1] / "configs" / "policies" / "flow_demo"
WEIGHTS = FOLDER / "checkpoints" / "flow.safetensors"
STATS = FOLDER / "norm_stats.json"
PARAMS = yaml.safe_load((FOLDER / "components" / "flow.yaml").read_text())["params"]
CAMERAS = PARAMS["camera_names"]
HORIZON = PARAMS["action_horizon"]
WIDTH, HEIGHT = 320, 240  # of a camera's image
STD_FLOOR_RAD = 0.05  # for joints that hardly move: nothing is divided by almost zero

DEMOS_PER_TASK = 8
EARLY_ROWS = 20  # all of these are samples: here falls the choice of a way round
ROWS_BETWEEN_SAMPLES = 4  # later
OBSERVATIONS = 128  # per training step
DRAWS = 2  # of noise and tau, per observation
LEARNING_RATE = 2e-3
SCENE_MIDDLE_M = np.array([0.47, -0.25, 0.325, -0.265])  # target x and y, post x and y
SCENE_UNIT_M = 0.05
SCENE_WEIGHT = 0.3  # of telling the scene, beside flow matching's loss
EMA = 0.995

STEPS = 5  # Euler steps, in evaluation
ROWS_PER_PLAN = 25
EPISODE_ROWS = 120
MAX_DELTA_RAD = np.radians(5.0)
EVALUATION_SEED = 1_000_000  # and up; training draws from smaller ones

T = TypeVar("T")


class Samples(NamedTuple):
    """N observations with what to do: the rows of many demonstrations."""

    states: Tensor  # (N, 24) rad
    images: Tensor  # (N, cameras, 3, image_height, image_width) uint8
    actions: Tensor  # (N, H, 24) rad
    scenes: Tensor  # (N, 4): where target and post are, in SCENE_UNIT_M about SCENE_MIDDLE_M


class Stats(NamedTuple):
    """Mean and standard deviation of states and actions, (24,) rad each."""

    state: tuple[Tensor, Tensor]
    action: tuple[Tensor, Tensor]


def demonstrate(seed: int) -> tuple[NDArray[Any], ...]:
    """`Samples` of a few demonstrations; those that touched the post or missed are left out."""
    rng = np.random.default_rng(seed)
    world, planner, painter = World(seed), Planner(), Painter(WIDTH, HEIGHT)
    kept = []
    for _ in range(DEMOS_PER_TASK):
        demo = Demonstration(world, planner, rng)
        offset = rng.integers(ROWS_BETWEEN_SAMPLES)
        scene = np.array([*world.target[:2], *world.post])
        scene = (scene - SCENE_MIDDLE_M) / SCENE_UNIT_M
        samples = [
            (world.position, small_views(world, painter), demo.chunk(row, HORIZON), scene)
            for row in demo
            if row < EARLY_ROWS or row % ROWS_BETWEEN_SAMPLES == offset
        ]
        if world.reached and not world.touched_post:
            kept += samples
    stacked = (np.stack(values) for values in zip(*kept, strict=True))
    return tuple(v if v.dtype == np.uint8 else v.astype(np.float32) for v in stacked)


def small_views(world: World, painter: Painter) -> NDArray[np.uint8]:
    """(cameras, 3, image_height, image_width) uint8: as the network itself shrinks them."""
    view = np.empty((3, HEIGHT, WIDTH), np.uint8)
    size = (PARAMS["image_width"], PARAMS["image_height"])
    small = np.empty((len(CAMERAS), 3, *size[::-1]), np.uint8)
    for camera, planes in zip(CAMERAS, small, strict=True):
        painter.paint(world, camera, view)
        for plane, target in zip(view, planes, strict=True):
            cv2.resize(plane, size, target, interpolation=cv2.INTER_AREA)
    return small


def collect(demos: int, seed: int) -> Samples:
    """Demonstrations from two processes."""
    tasks = range(seed * 10_000, seed * 10_000 + -(-demos // DEMOS_PER_TASK))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = list(bar(pool.imap(demonstrate, tasks), len(tasks), "demonstrations"))
    return Samples(*(torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True)))


def statistics(samples: Samples) -> Stats:
    def of(values: Tensor) -> tuple[Tensor, Tensor]:
        flat = values.reshape(-1, values.shape[-1])
        return flat.mean(0), flat.std(0).clamp(min=STD_FLOOR_RAD)

    return Stats(of(samples.states), of(samples.actions))


def train(samples: Samples, stats: Stats, minutes: float) -> FlowModel:
    """Flow matching for `minutes`; returns the weights' exponential moving average.

    A linear layer, thrown away afterwards, has to tell the scene from what the eyes see: without
    it they take ten times as long to find target and post.
    """
    model = FlowModel(**PARAMS)
    tell = torch.nn.Linear(PARAMS["context_dim"], samples.scenes.shape[1])
    average = {name: value.clone() for name, value in model.state_dict().items()}
    states = normalize(samples.states, stats.state)
    actions = normalize(samples.actions, stats.action)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *tell.parameters()], LEARNING_RATE, weight_decay=1e-4
    )
    start, losses = time.monotonic(), list[float]()
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        warm = min(1.0, (1 + len(losses)) / 100)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * done))
        chosen = torch.randint(len(states), (OBSERVATIONS,))
        context = model.encode(observe(states[chosen], samples.images[chosen]))
        loss = flow_loss(model, context, actions[chosen])
        scene_loss = (tell(context) - samples.scenes[chosen]).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss + SCENE_WEIGHT * scene_loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - EMA)
        losses.append(loss.item())
        text = f"training: step {len(losses)}, loss {np.mean(losses[-50:]):.4f}"
        show(done, f"{text}, scene {scene_loss.item():.3f} ")
    show(1.0, f"{text}\n")
    model.load_state_dict(average)
    return model


def flow_loss(model: FlowModel, context: Tensor, actions: Tensor) -> Tensor:
    """Mean squared error of the velocity on the straight way from noise to actions."""
    context = context.repeat(DRAWS, 1)
    actions = actions.repeat(DRAWS, 1, 1)
    noise = torch.randn_like(actions)
    tau = 1 - torch.rand(len(actions)).sqrt()  # more of them near the noise, where choices fall
    x = noise + tau[:, None, None] * (actions - noise)
    return (model.velocity(context, x, tau) - (actions - noise)).square().mean()


def observe(states: Tensor, images: Tensor) -> dict[str, Tensor]:
    views = {name: images[:, i, None] for i, name in enumerate(CAMERAS)}
    return {"proprio": states[:, None], **views}


@torch.no_grad()
def plan(model: FlowModel, stats: Stats, world: World, painter: Painter) -> NDArray[np.float64]:
    """(H, 24) rad: one unguided chunk for the world as it is."""
    state = normalize(torch.from_numpy(world.position).float()[None], stats.state)
    context = model.encode(observe(state, torch.from_numpy(small_views(world, painter))[None]))
    x = torch.randn(1, model.action_horizon, model.action_dim)
    for step in range(STEPS):
        x = x + model.velocity(context, x, torch.full((1,), step / STEPS)) / STEPS
    mean, std = stats.action
    return (x[0] * std + mean).double().numpy()


def evaluate(model: FlowModel, stats: Stats, episodes: int) -> None:
    """Closed loop, in simulated time, d = 0; prints what came of it."""
    torch.manual_seed(0)
    painter = Painter(WIDTH, HEIGHT)
    reached = touched = left = limited = rows = 0
    for episode in bar(iter(range(episodes)), episodes, "evaluation"):
        world = World(EVALUATION_SEED + episode)
        command, side, nearest = world.position, 0.0, math.inf
        for row in range(EPISODE_ROWS):
            if row % ROWS_PER_PLAN == 0:
                chunk = plan(model, stats, world, painter)
            wanted = chunk[row % ROWS_PER_PLAN] - command
            limited += bool(np.abs(wanted).max() > MAX_DELTA_RAD)
            command = command + np.clip(wanted, -MAX_DELTA_RAD, MAX_DELTA_RAD)
            world.step(command, ROW_S)
            rows += 1
            offset = world.hand[:2] - world.post
            if (distance := float(np.hypot(*offset))) < nearest:
                way = world.target[:2] - world.post
                nearest, side = distance, float(way[0] * offset[1] - way[1] * offset[0])
            if world.reached or world.touched_post:
                break
        reached += world.reached
        touched += world.touched_post
        left += side > 0
    print(
        f"{episodes} episodes: {reached / episodes:.0%} reached, {touched / episodes:.0%} touched "
        f"the post; {left} went round its left, {episodes - left} its right; "
        f"{rows / episodes * ROW_S:.1f} s on average; {limited / rows:.2%} of rows slew-limited"
    )


def normalize(values: Tensor, stats: tuple[Tensor, Tensor]) -> Tensor:
    return (values - stats[0]) / stats[1]


def save(model: FlowModel, stats: Stats) -> None:
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, WEIGHTS)
    named = {"observation.state": stats.state, "action": stats.action}
    table = {
        key: {"mean": mean.tolist(), "std": std.tolist()} for key, (mean, std) in named.items()
    }
    STATS.write_text(json.dumps({"norm_stats": table}, indent=1) + "\n")


def load() -> tuple[FlowModel, Stats]:
    model = FlowModel(**PARAMS)
    model.load_state_dict(load_file(WEIGHTS))
    table = json.loads(STATS.read_text())["norm_stats"]
    pairs = (
        (torch.tensor(table[key]["mean"]), torch.tensor(table[key]["std"]))
        for key in ("observation.state", "action")
    )
    return model, Stats(*pairs)


def bar(items: Iterator[T], total: int, what: str) -> Iterator[T]:
    """Show progress through `items`."""
    for done, item in enumerate(items, 1):
        yield item
        show(done / total, f"{what}: {done} of {total}" + "\n" * (done == total))


def show(done: float, text: str) -> None:
    """Redraw the progress bar."""
    print(f"\r{cli.bar(done)} {text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demos", type=int, default=800, help="demonstrations to collect")
    parser.add_argument("--minutes", type=float, default=16, help="of training, after collecting")
    parser.add_argument("--seed", type=int, default=1, help="1 to 99; another seed, other data")
    parser.add_argument("--evaluate", type=int, metavar="N", help="only evaluate, N episodes")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(options.seed)
    if options.evaluate is None:
        samples = collect(options.demos, options.seed)
        print(f"{len(samples.states)} samples")
        stats = statistics(samples)
        save(train(samples, stats, options.minutes), stats)
    evaluate(*load(), options.evaluate or 100)


if __name__ == "__main__":
    main()
