"""B episodes as one robot of 2·B joints, so that the real runtime can drive them all at once.

The robot's "joints" are velocities (m/s): what is commanded for a tick is in force until the next.
A tick that never happens, because sequential mode is planning, finds it standing still.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rt.arrays import Vector
from rt.compare.world import EPISODE_ROWS, Bools, World
from rt.infer.affine import IDENTITY, Affine
from rt.infer.normalization import Normalizer
from rt.robots.robot import State
from rt.testing import FakeClock, FakeRobot

STANDING = -1  # the tick of a row without a command


class Fleet(FakeRobot):
    """A robot whose commands move a `World`, and that remembers them."""

    def __init__(self, world: World, clock: FakeClock, row_ns: int) -> None:
        episodes = len(world.position)
        super().__init__(np.zeros(2 * episodes), clock=clock)
        self.world = world
        self.velocities = np.zeros((EPISODE_ROWS, episodes, 2))  # m/s, of each row
        self.going: Bools = np.zeros((EPISODE_ROWS, episodes), np.bool_)  # not over at the row
        self.row_ticks: list[int] = []  # which tick commanded each row
        self._clock, self._row_ns = clock, row_ns
        self._t_moved = 0  # 0: not yet told to move, and the world waits
        self._command = self.position
        self._command_tick = STANDING

    def read_state(self) -> State:
        """Let the world go on until now; the velocities in force, (2·B,) m/s."""
        now = self._clock.now_ns()
        if self._t_moved:
            for _ in range(round((now - self._t_moved) / self._row_ns)):
                self._step()
            self._t_moved = now
        self._reported[:] = self.world.velocity.ravel()
        return State(self._reported, now)

    def publish_action(self, action: Vector) -> None:
        """These velocities (2·B,) m/s for the tick that has begun."""
        if not self._t_moved and action.any():
            self._t_moved = self._clock.now_ns()
        self._command, self._command_tick = action.copy(), self.tick

    def hold(self) -> None:
        """Stand still, as a robot that is steered by its velocity must."""
        self.publish_action(np.zeros_like(self._command))

    def _step(self) -> None:
        if self.world.row == EPISODE_ROWS:
            return
        velocity = self._command.reshape(-1, 2)
        self.velocities[self.world.row] = velocity
        self.going[self.world.row] = ~self.world.over
        self.row_ticks.append(self._command_tick)
        self.world.step(velocity)
        self._command, self._command_tick = np.zeros_like(self._command), STANDING


class FleetNetwork(nn.Module):
    """A network of single episodes as one of all of them: (1, H, 2·B) outside, (B, H, 2) inside.

    The episodes share d and s, and so the prefix weights; nothing else is common to them.
    """

    def __init__(self, network: Any, stats: Normalizer, world: World) -> None:
        super().__init__()
        self.network, self._stats, self._world = network, stats, world
        self._episodes = len(world.position)
        self.action_horizon = network.action_horizon
        self.action_dim = self._episodes * network.action_dim
        self.row_times = network.row_times
        each = stats.action
        offset, scale = (np.tile(values, self._episodes) for values in (each.offset, each.scale))
        self.normalizer = Normalizer(IDENTITY, Affine(offset, scale, each.shift))

    def encode(self, observation: dict[str, Tensor]) -> Tensor:
        """(B, …): from what the world shows and the velocities in force."""
        velocity = observation["proprio"][0, -1].reshape(self._episodes, -1)
        state = torch.cat([torch.from_numpy(self._world.observe()), velocity], dim=1)
        context: Tensor = self.network.encode(
            {"proprio": self._stats.normalize_state(state)[:, None]}
        )
        return context

    def velocity(self, context: Tensor, x: Tensor, tau: Tensor) -> Tensor:
        """(1, H, 2·B) from x (1, H, 2·B) and tau (1,) or (1, H)."""
        each = x[0].reshape(x.shape[1], self._episodes, -1).transpose(0, 1)
        v = self.network.velocity(context, each, tau.expand(self._episodes, *tau.shape[1:]))
        all_of_them: Tensor = v.transpose(0, 1).flatten(1)[None]
        return all_of_them


def seams(row_ticks: list[int], first_used_ticks: set[int]) -> NDArray[np.bool_]:
    """(rows,): whether another chunk was used for the first time. Never where it stood: records
    from before the first chunk have no first use, -1, either."""
    return np.isin(row_ticks, list(first_used_ticks - {STANDING}))
