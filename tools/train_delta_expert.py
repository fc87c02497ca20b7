"""Train the demonstration policy's delta expert, and measure what it is worth.

    python tools/train_delta_expert.py                  # about 10 minutes on two cores
    python tools/train_delta_expert.py --evaluate       # only measure what is there

The policy itself, configs/policies/flow_demo, stays as it is: each sample is encoded once, and the
expert learns over the cached prefix. Writes that folder's checkpoints/delta.safetensors, which
configs/policies/flow_demo_delta runs. Needs the extra `sim`. See docs/delta_expert.md.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import train_demo as demo
import yaml
from measure_delta_expert import denoise, measure_closed_loop, measure_tracking
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from rt.infer.policies.delta_flow import DeltaFlow, MixerDelta
from rt.infer.policies.flow_model import FlowModel
from rt.robots.sim.demos import Demonstration, Planner
from rt.robots.sim.painter import Painter
from rt.robots.sim.world import World

COMPONENT = Path(__file__).parents[1] / "configs/policies/flow_demo_delta/components/delta.yaml"
PARAMS = yaml.safe_load(COMPONENT.read_text())["params"]
WEIGHTS = demo.WEIGHTS.with_name("delta.safetensors")

BATCH = 256
PROMISES = 4  # earlier chunks' words for each sample, drawn once
OLDEST_ROWS = 25  # as old as a chunk's word may be
WITHOUT_CONTEXT = 0.1  # share of steps
FROM_DEMONSTRATION = 0.4  # share of steps with the demonstration's own rows as the context
HELD_OUT_TASKS = 12  # of demo.DEMOS_PER_TASK demonstrations each
HELD_OUT_SEED = 4_000_000  # and up: neither the policy nor its delta expert was trained on these


class Samples(NamedTuple):
    """S observations, encoded, with what to do. Actions are normalised."""

    prefix: Tensor  # (S, context_dim)
    actions: Tensor  # (S, H, A), of the demonstration
    denoised: Tensor  # (2, S, H, A), two of the policy's own chunks
    promises: Tensor  # (S, PROMISES, N, A): rows 0 to N as the policy foresaw them a while before
    demonstration: Tensor  # (S,): which one it is from


def demonstrate(task: int) -> tuple[NDArray[Any], ...]:
    """States, images, actions, demonstration and row of a few demonstrations' samples; those that
    touched the post or missed are left out."""
    rng = np.random.default_rng(task)
    world, planner = World(task), Planner()
    painter = Painter(demo.WIDTH, demo.HEIGHT)
    kept = []
    for number in range(demo.DEMOS_PER_TASK):
        demonstration = Demonstration(world, planner, rng)
        identity = task * demo.DEMOS_PER_TASK + number
        samples = [
            (
                world.position.astype(np.float32),
                demo.small_views(world, painter),
                demonstration.chunk(row, demo.HORIZON).astype(np.float32),
                identity,
                row,
            )
            for row in demonstration
            if row < demo.EARLY_ROWS or row % demo.ROWS_BETWEEN_SAMPLES == 0
        ]
        if world.reached and not world.touched_post:
            kept += samples
    return tuple(np.stack(values) for values in zip(*kept, strict=True))


def collect(model: FlowModel, stats: demo.Stats, tasks: range, what: str) -> Samples:
    """Demonstrations from two processes, encoded and denoised by the policy."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = list(demo.bar(pool.imap(demonstrate, tasks), len(tasks), what))
    states, images, actions, which, rows = (
        torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True)
    )
    states = demo.normalize(states, stats.state)
    batches = list(zip(states.split(BATCH), images.split(BATCH), strict=True))
    prefixes, chunks = [], []
    with torch.no_grad():
        for state, image in demo.bar(iter(batches), len(batches), "encoding"):
            prefixes.append(model.encode(demo.observe(state, image)))
            chunks.append(torch.stack([denoise(model, prefixes[-1]) for _ in range(2)]))
    actions = demo.normalize(actions, stats.action)
    denoised = torch.cat(chunks, dim=1)
    said = promises(actions, denoised, which.tolist(), rows.tolist())
    return Samples(torch.cat(prefixes), actions, denoised, said, which)


def promises(actions: Tensor, denoised: Tensor, which: list[int], rows: list[int]) -> Tensor:
    """What the policy's chunks of 4 to 25 rows before say of each sample's first N rows.

    That is what an action context is at inference: not the demonstration's rows but the policy's
    own, as old as its chunk. Of two chunks `denoised` (2, S, H, A) the one that is nearer to the
    demonstration is asked: the other may go the other way round. Where nothing came before, the
    demonstration's rows stand.
    """
    N = PARAMS["context_rows"]
    rng = np.random.default_rng(0)
    at = {key: index for index, key in enumerate(zip(which, rows, strict=True))}
    drawn = actions[:, None, :N].repeat(1, PROMISES, 1, 1)
    for sample, (demonstration, row) in enumerate(zip(which, rows, strict=True)):
        ages = [age for age in range(4, OLDEST_ROWS + 1) if (demonstration, row - age) in at]
        for place in range(PROMISES if ages else 0):
            age = int(rng.choice(ages))
            both = denoised[:, at[demonstration, row - age], age : age + N]
            errors = (both - actions[sample, :N]).square().mean((1, 2))
            drawn[sample, place] = both[errors.argmin()]
    return drawn


def draw_context(samples: Samples, chosen: Tensor) -> Tensor | None:
    """(B, N, A) for a training step: what was promised, the demonstration's own rows, or none."""
    kind = torch.rand(()).item()
    if kind < WITHOUT_CONTEXT:
        return None
    if kind < WITHOUT_CONTEXT + FROM_DEMONSTRATION:
        return samples.actions[chosen, : samples.promises.shape[2]]
    return samples.promises[chosen, torch.randint(PROMISES, (len(chosen),))]


def train(network: DeltaFlow, samples: Samples, steps: int) -> None:
    """Minimise `forward_delta_expert`; leaves the weights' exponential moving average."""
    delta = network.delta
    average = {name: value.clone() for name, value in delta.state_dict().items()}
    optimizer = torch.optim.AdamW(delta.parameters(), demo.LEARNING_RATE, weight_decay=1e-4)
    losses = list[float]()
    for step in range(steps):
        rate = 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = demo.LEARNING_RATE * rate
        chosen = torch.randint(len(samples.actions), (BATCH,))
        batch = {"prefix": samples.prefix[chosen], "action": samples.actions[chosen]}
        loss, parts = network.forward_delta_expert(batch, draw_context(samples, chosen))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(delta.parameters(), 1.0)
        optimizer.step()
        for name, value in delta.state_dict().items():
            average[name].lerp_(value, 1 - demo.EMA)
        losses.append(parts["loss"])
        mean = np.mean(losses[-50:])
        demo.show((step + 1) / steps, f"training: step {step + 1} of {steps}, loss {mean:.4f} ")
    print(file=sys.stderr)
    delta.load_state_dict(average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demos", type=int, default=400, help="demonstrations to collect")
    parser.add_argument("--steps", type=int, default=2000, help="of training, after collecting")
    parser.add_argument("--seed", type=int, default=2, help="2 to 99; another seed, other data")
    parser.add_argument("--episodes", type=int, default=100, help="to measure in closed loop")
    parser.add_argument("--evaluate", action="store_true", help="only measure what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)  # with more, each waits for the others wherever cores are shared
    torch.manual_seed(options.seed)
    model, stats = demo.load()
    network = DeltaFlow(model, MixerDelta(**PARAMS))
    if options.evaluate:
        network.delta.load_state_dict(load_file(WEIGHTS))
    else:
        first = options.seed * 10_000
        tasks = range(first, first + -(-options.demos // demo.DEMOS_PER_TASK))
        train(network, collect(model, stats, tasks, "demonstrations"), options.steps)
        save_file({k: v.contiguous() for k, v in network.delta.state_dict().items()}, WEIGHTS)
    tasks = range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT_TASKS)
    held_out = collect(model, stats, tasks, "held-out demonstrations")
    measure_tracking(network, stats, held_out)
    measure_closed_loop(network, options.episodes)


if __name__ == "__main__":
    main()
