"""One point of the figure: one variant at one delay, many episodes, in simulated time.

The control loop, the rings, the mode's bookkeeping, the policy and its mathematics are the
runtime's own (`rt.testing.SimulatedRun`); only the robot is simulated and the clock a fake.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rt.compare.fleet import Fleet, FleetNetwork, seams
from rt.compare.metrics import average, largest_jump, largest_second_difference, wilson
from rt.compare.points import EVALUATION_SEED, HORIZON, S_MIN, VARIANTS, Point, Result
from rt.compare.world import ROW_S, World
from rt.config import Config, JointGroup
from rt.config.load import configs_folder
from rt.errors import PolicyError
from rt.infer.loader import build_component
from rt.infer.normalization import Normalizer
from rt.infer.policies.flow import FlowPolicy
from rt.infer.policy_config import load_policy_config
from rt.testing import FakeClock, SimulatedRun, config


def run_point(point: Point) -> Result:
    """Run the episodes. Raises PolicyError if the delay that came about is not the one asked."""
    world = World(point.episodes, EVALUATION_SEED + point.seed)
    setup = _config(point)
    clock = FakeClock()
    fleet = Fleet(world, clock, setup.period_ns)
    policy = _policy(point, world)
    with SimulatedRun(
        setup,
        delay=lambda n: max(0.0, point.delay - 0.5),
        instant=point.delay == 0,  # a chunk in the very tick of its observation
        policy=policy,
        robot=fleet,
        clock=clock,
    ) as run:
        run.mode.check(policy, f"{point.variant}'s checkpoint")
        while not world.over.all() and not run.dropped:
            run.tick()
    _check_delays(run, point)
    return _judge(point, fleet, run)


def _judge(point: Point, fleet: Fleet, run: SimulatedRun) -> Result:
    world, rows = fleet.world, fleet.world.row
    velocities, going = fleet.velocities[:rows], fleet.going[:rows]
    first_used = {int(tick["chunk_first_used_tick"]) for tick in run.ticks}
    at = seams(fleet.row_ticks, first_used)
    return Result(
        point=point,
        success=wilson(int(world.reached.sum()), point.episodes),
        seam_jump=average(largest_jump(velocities, going, at)),
        second_difference=average(largest_second_difference(velocities, going)),
        rows_to_goal=average(world.rows[world.reached]),
        touched=float(world.touched.mean()),
    )


def _check_delays(run: SimulatedRun, point: Point) -> None:
    """The figure's axis is what control really did, not what was asked of the fakes."""
    counted = {plan.previous_d_counted for plan in run.plans} - {-1}
    if run.dropped or counted != (set() if run.mode.planner.waits else {point.delay}):
        raise PolicyError(
            f"{point.variant} at d = {point.delay}: expected that delay alone, got "
            f"{sorted(counted)} and {run.dropped} dropped chunks: this is a fault of rt.compare"
        )


def _config(point: Point) -> Config:
    joints = 2 * point.episodes
    far = (1e9,) * joints
    group = JointGroup(
        name="fleet", lower_deg=tuple(-x for x in far), upper_deg=far, max_delta_deg=1e9
    )
    return config(
        (group,),
        HZ=1 / ROW_S,
        action_chunk_size=HORIZON,
        min_num_actions_executed=S_MIN,
        policy_update_period=max(S_MIN, point.delay),  # as often as the others plan
        initial_delay=point.delay,
        **VARIANTS[_variant(point)],
    )


def _variant(point: Point) -> str:
    """Who waits for nothing does not wait: without a delay, sequential is naive."""
    return "naive" if point.variant == "sequential" and not point.delay else point.variant


def _policy(point: Point, world: World) -> FlowPolicy:
    """`type: flow` as it is, over a network that knows all episodes."""
    file = "prefix.yaml" if point.variant == "prefix" else "policy.yaml"
    policy = load_policy_config(configs_folder() / "policies" / "compare" / file)
    (name,) = policy.components
    network: Any = build_component(policy, name, FlowPolicy, "cpu")
    network.requires_grad_(False)
    stats: Any = policy.norm_stats_path  # both YAMLs name one
    normalizer = Normalizer.load(stats, network.state_dim, network.action_dim)
    seed = int(np.random.default_rng([point.seed, point.delay]).integers(2**31))
    return FlowPolicy(
        {name: FleetNetwork(network, normalizer, world)}, **(policy.kwargs | {"seed": seed})
    )
