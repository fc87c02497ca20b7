"""Train the comparison's two policies from nothing: demonstrations, then flow matching.

    python tools/train_compare.py          # both; a few minutes on two cores

`flow` is trained as flow policies are. `prefix` is the same network trained with simulated delays
(training-time RTC, arXiv 2512.05964): the first d rows of each chunk, d drawn anew, are given to it
clean and at tau = 1, and only the rest is to be learned. As in that paper this is the second part
of its training: half of the steps. Both see the same demonstrations for the same number of steps.
Writes norm_stats.json and checkpoints/ in configs/policies/compare/, whose policy YAMLs say what
the networks are.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from compare_demos import Demonstrator
from safetensors.torch import save_file
from torch import Tensor

from rt.cli import bar
from rt.compare.network import CompareNetwork
from rt.compare.points import EVALUATION_SEED, HORIZON
from rt.compare.world import RADIUS_M, World, distance
from rt.infer.policy_config import load_policy_config

FOLDER = Path(__file__).parents[1] / "configs" / "policies" / "compare"
POLICIES = {"flow": "policy.yaml", "prefix": "prefix.yaml"}  # by their component, in FOLDER
WORLDS = 3000
PUSH_M, PUSH_M_S = 0.08, 0.25  # how far off the way a demonstration begins; a few, much farther
BATCH = 256
LEARNING_RATE = 2e-3
EMA = 0.995


class Samples(NamedTuple):
    """N situations and what to do in them."""

    states: Tensor  # (N, 6): obstacle and goal from the robot, m; its velocity, m/s
    actions: Tensor  # (N, H, 2) m/s


def collect(seed: int, horizon: int) -> Samples:
    """Demonstrators go to the goal through gusts; at every row of their way another one, pushed
    off it and free to choose a side anew, shows what to do from there."""
    rng = np.random.default_rng(seed)
    world = World(WORLDS, seed)
    walker = Demonstrator(world.position, world.velocity, world, rng)
    states, actions = [], []
    while not world.over.all():
        push = rng.exponential(1, (WORLDS, 1)) * rng.normal(0, 1, (WORLDS, 4))
        position = world.position + PUSH_M * push[:, :2]
        velocity = world.velocity + PUSH_M_S * push[:, 2:]
        kept = ~world.over & (distance(position, world.obstacle) > RADIUS_M)
        seen = [world.obstacle - position, world.goal - position, velocity]
        chunk = Demonstrator(position, velocity, world, rng).chunk(position, velocity, horizon)
        states.append(np.hstack(seen)[kept])
        actions.append(chunk[kept])
        world.step(walker.velocity(world.position, world.velocity))
    return Samples(
        torch.from_numpy(np.concatenate(states)).float(), torch.from_numpy(np.concatenate(actions))
    )


def train(network: CompareNetwork, samples: Samples, steps: int, *, shown: bool) -> float:
    """Flow matching; leaves the weights' exponential moving average. Returns the last loss.

    samples: normalised. shown: draw a progress bar.
    """
    average = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-4)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 100)
            group["lr"] = LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen = torch.randint(len(samples.states), (BATCH,))
        delays = network.row_times and step >= steps // 2
        loss = flow_loss(network, samples.states[chosen], samples.actions[chosen], delays=delays)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        for key, value in network.state_dict().items():
            average[key].lerp_(value, 1 - EMA)
        losses.append(loss.item())
        if shown and (step % 20 == 19 or step == steps - 1):
            show((step + 1) / steps, f"step {step + 1} of {steps}" + "\n" * (step == steps - 1))
    network.load_state_dict(average)
    return float(np.mean(losses[-200:]))


def flow_loss(network: CompareNetwork, states: Tensor, actions: Tensor, *, delays: bool) -> Tensor:
    """Mean squared error of the clean chunk, at a random time on the way from noise to it.

    With `delays` the rows before a random delay of 0 to H/2 are given, and not to be learned.
    """
    B, H, _ = actions.shape
    tau = torch.rand(B, 1).expand(B, H)
    learned = torch.ones(B, H, dtype=torch.bool)
    if delays:
        delay = torch.randint(0, H // 2 + 1, (B, 1))
        learned = torch.arange(H) >= delay
        tau = torch.where(learned, tau, 1.0)
    noise = torch.randn_like(actions)
    x = noise + tau[..., None] * (actions - noise)
    guess = network.clean(network.encode({"proprio": states[:, None]}), x, tau)
    # Between the error of the chunk and that of the velocity, which is 1 / (1 - tau)² of it.
    weight = learned / (1 - tau).clamp(min=0.1)
    return ((guess - actions).square().mean(-1) * weight).sum() / learned.sum()


def normalize(samples: Samples) -> tuple[Samples, dict[str, dict[str, list[float]]]]:
    """The samples by mean and standard deviation, and those as norm_stats.json wants them."""
    stats, normal = {}, []
    for key, values in zip(("observation.state", "action"), samples, strict=True):
        flat = values.flatten(0, -2)
        mean, std = flat.mean(0), flat.std(0)
        stats[key] = {"mean": mean.tolist(), "std": std.tolist()}
        normal.append((values - mean) / std)
    return Samples(*normal), stats


def make(name: str, samples: Samples, steps: int, seed: int, path: Path) -> str:
    """Train the component `name`, on one core, and save it."""
    start = time.monotonic()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    component = load_policy_config(FOLDER / POLICIES[name]).components[name]
    network = CompareNetwork(**component.params)
    loss = train(network, samples, steps, shown=name == "flow")
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, path)
    took = f"{time.monotonic() - start:.0f} s ({time.process_time():.0f} s of one core)"
    return f"{name}: {len(samples.states)} samples, {steps} steps, loss {loss:.4f}, {took}"


def show(done: float, text: str) -> None:
    """Redraw the progress bar."""
    print(f"\r{bar(done)} {text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1, help="another seed, other data")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    if not 1 <= options.seed < EVALUATION_SEED:
        parser.error(f"--seed: expected 1 to {EVALUATION_SEED - 1}: evaluation uses the others")
    checkpoints: Path = options.out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # a sum's last digits depend on it, and the statistics on them
    samples, stats = normalize(collect(options.seed, HORIZON))
    text = json.dumps({"norm_stats": stats}, indent=1)
    (options.out / "norm_stats.json").write_text(text + "\n")
    tasks = [
        (name, samples, options.steps, options.seed, checkpoints / f"{name}.safetensors")
        for name in POLICIES
    ]
    with multiprocessing.get_context("spawn").Pool(len(tasks)) as pool:
        for line in pool.starmap(make, tasks):
            print(line)


if __name__ == "__main__":
    main()
