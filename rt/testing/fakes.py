"""A clock, a robot and a policy that do what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

from rt.arrays import Chunk, Vector
from rt.errors import RobotError
from rt.robots.robot import State

Reading = Literal["fresh", "none", "stale", "ahead", "nan", "raise"]

START_NS = 1_000_000_000


class FakeClock:
    """`rt.clock` without waiting: `sleep_until` jumps there."""

    def __init__(
        self, t_ns: int = START_NS, *, lateness_ns: Iterable[int] = (), step_ns: int = 0
    ) -> None:
        """`lateness_ns`: how late each sleep wakes, one after the other, then 0; negative: a
        signal ends it so much early. `step_ns` passes at each look, so that a spin ends."""
        self.t_ns = t_ns
        self.sleeps: list[int] = []  # until when, each
        self._lateness = iter(lateness_ns)
        self._step_ns = step_ns

    def now_ns(self) -> int:
        """What time it is."""
        self.t_ns += self._step_ns
        return self.t_ns

    def advance(self, ns: int) -> None:
        """Let `ns` pass."""
        self.t_ns += ns

    def sleep_until(self, t_ns: int) -> bool:
        """Like `rt.clock.sleep_until`."""
        self.sleeps.append(t_ns)
        late = next(self._lateness, 0)
        self.t_ns = max(self.t_ns, t_ns + late)
        return late >= 0


class Sent(NamedTuple):
    """A command that reached the robot."""

    tick: int
    command: Vector
    held: bool  # through `hold`
    whole: bool = True  # False: to the first half of the joints only


class FakeRobot:
    """`rt.robots.robot.Robot` that goes where it is told, and fails when it is told."""

    def __init__(
        self, position: Iterable[float], *, clock: FakeClock | None = None, share: float = 1.0
    ) -> None:
        """`position` (A,) rad at the start. At each read the joints have gone `share` of their
        way to the last command: 1 tracks perfectly, less lags, 0 is blocked."""
        self.position = np.array(list(position), np.float64)
        self.sent: list[Sent] = []  # every command
        self.tick = -1  # whoever runs the robot may say which it is
        self.reading: Reading = "fresh"  # what the next reads give
        self.raising: set[str] = set()  # names of methods that raise
        self.halfway = False  # `publish_action` reaches the first half of the joints, and raises
        self.success = False
        self.prepared = 0  # episodes
        self.initial = np.full(len(self.position), np.nan)  # where episodes begin
        self.fault = ""  # what it says is wrong with it
        self.share = share
        self.started = False
        self._reported = self.position.copy()
        self._clock = clock or FakeClock()
        self._t_state = 0

    def start_state_readers(self) -> None:
        self.started = True

    def read_state(self) -> State:
        self._may_raise("read_state")
        if self.reading == "none":
            return State(self._reported, 0, late="the fake robot was told to be silent")
        if self.reading == "nan":
            self._reported.fill(np.nan)
            return State(self._reported, self._clock.now_ns())
        if self.reading == "ahead":  # a stamp of another clock
            return State(self._reported, self._clock.now_ns() + 10**12)
        if self.reading == "fresh":
            self._t_state = self._clock.now_ns()
            if self.sent:
                self.position += self.share * (self.sent[-1].command - self.position)
        self._reported[:] = self.position
        return State(self._reported, self._t_state, self.fault, "nothing new from the fake robot")

    def publish_action(self, action: Vector) -> None:
        self._may_raise("publish_action")
        command = action.copy()
        if self.halfway:
            half = len(action) // 2
            command[half:] = (self.sent[-1].command if self.sent else self.position)[half:]
        self.sent.append(Sent(self.tick, command, False, not self.halfway))
        if self.halfway:
            raise RobotError("the fake robot was told to fail halfway")

    def init_robot_position(self) -> Vector:
        self._may_raise("init_robot_position")
        return self.initial

    def hold(self) -> None:
        self._may_raise("hold")
        if self.sent:
            self.sent.append(Sent(self.tick, self.sent[-1].command, True))

    def prepare_episode(self) -> None:
        self._may_raise("prepare_episode")
        self.prepared += 1

    def succeeded(self) -> bool:
        self._may_raise("succeeded")
        return self.success

    def shutdown(self) -> None:
        self.started = False

    def _may_raise(self, method: str) -> None:
        if method in self.raising or (method == "read_state" and self.reading == "raise"):
            raise RobotError(f"the fake robot was told to fail in {method}")


def _as_it_is(number: int, chunk: Chunk) -> Any:
    return chunk


class ScriptedPolicy:
    """`rt.infer.Policy` whose chunks can be told apart: chunk n (from 1) holds
    n · 1000 + row + joint / 100 rad."""

    def __init__(
        self,
        components: dict[str, Any] | None = None,
        *,
        action_chunk_size: int,
        action_dim: int,
        script: Callable[[int, Chunk], Any] = _as_it_is,
    ) -> None:
        """`script(n, chunk)` gives what the policy returns as chunk n; it may change the chunk,
        return anything, raise or sleep."""
        self.inputs: list[dict[str, Any]] = []  # of every call; with "s" when guided
        self.resets = 0
        rows, joints = np.arange(action_chunk_size)[:, None], np.arange(action_dim)
        self._pattern = rows + joints / 100
        self._script = script

    def predict(self, input_data: dict[str, Any], data_normalization_interface: Any) -> Any:
        self.inputs.append(input_data)
        number = len(self.inputs)
        return self._script(number, (number * 1000 + self._pattern).astype(np.float32))

    def guided_inference(
        self,
        input_data: dict[str, Any],
        data_normalization_interface: Any,
        min_num_actions_executed: int,
        action_chunk_size: int,
    ) -> Any:
        guided = {**input_data, "s": min_num_actions_executed}
        return self.predict(guided, data_normalization_interface)

    def warmup(self) -> None:
        """Nothing to warm."""

    def freeze_all_model_params(self) -> None:
        """It has none."""

    def reset(self) -> None:
        self.resets += 1
