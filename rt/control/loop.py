"""One tick: sense, obey, choose, limit, act, record.

Guarantees:
  - Every command sent is finite and within the limits, relative to the last one really sent
    (before that: to the measured pose).
  - Nothing here raises in a tick, allocates without bound, logs, locks, opens a file or waits.
    What goes wrong is a counter and a named hold in the tick record.
Assumptions:
  - One thread; the caller waits for the ticks (`Ticker`).
"""

from __future__ import annotations

import numpy as np

from rt.config import Config
from rt.control.episode import Episode
from rt.control.limits import Limits, is_finite
from rt.control.recorder import Recorder
from rt.control.swap import Swap
from rt.control.ticker import Tick
from rt.records import ORDER_VALID_S, Answer, Hold, Order, Phase
from rt.robots.robot import Robot, Task
from rt.shm import Ring

SETTLE_S = 0.25  # at the initial pose, before an episode begins


class ControlLoop:
    """The state of control between ticks, and `tick`."""

    def __init__(
        self, config: Config, robot: Robot, *, ticks: Ring, chunks: Ring, commands: Ring
    ) -> None:
        """`ticks` is written here; `chunks` and `commands` are read."""
        params = config.params
        self.robot = robot
        self._task = robot if isinstance(robot, Task) else None
        bounds = config.lower_rad, config.upper_rad
        self.limits = Limits(*bounds, config.max_delta_rad_per_tick)
        self.approach = Limits(*bounds, config.initial_delta_rad_per_tick)
        self.episode = Episode(
            params.episode_ticks * params.ticks_per_row, round(SETTLE_S * config.control_hz)
        )
        self.swap = Swap(chunks, params.ticks_per_row)
        self.dry_run = config.run.dry_run
        self.stopping = False

        self._commands = commands
        self._order = commands.buffer()
        self._orders_seen = 0
        facts = config.robot
        self._max_state_age_ns = facts.max_state_age_ms * 1_000_000
        margin = np.deg2rad(facts.limit_margin_deg)
        self._first_lower, self._first_upper = bounds[0] - margin, bounds[1] + margin
        self._tolerance = float(np.deg2rad(facts.arrival_tolerance_deg))
        self._max_error = np.deg2rad(facts.max_following_error_deg or np.inf)
        self._initial = config.initial_rad  # NaN where a joint stays where it was measured
        self._goal = np.empty_like(self._initial)
        self._has_goal = False

        self.recorder = Recorder(ticks, dry_run=config.run.dry_run)
        self.record = self.recorder.record
        # These are the record's own fields: what is written to them is published.
        self._state = self.record["state"]
        self._target = self.record["target"]
        self._command = self.record["command"]
        self._last = np.empty_like(self._target)  # the command really sent last, else the pose
        self._sent = False  # whether anything was
        for unknown in (self._state, self._target, self._command, self._last):
            unknown.fill(np.nan)

    def tick(self, tick: Tick, *, skipped: int = 0, planned: bool = False) -> None:
        """Do one tick and publish its record.

        `skipped`: due ticks passed over before this one. `planned`: because sequential mode was
        planning, else because the loop was late.
        """
        fresh = self._sense(tick.t_wake)
        self._obey(tick)
        hold = self._act(self._choose(tick, fresh))
        executing = hold is Hold.NONE and self.episode.phase is Phase.RUN
        if executing:
            self.swap.used(tick.k)
        self.recorder.skip(skipped, planned=planned)
        self.recorder.publish(tick, hold, executing, self.episode, self.swap)

    def _sense(self, now: int) -> bool:
        """Read the robot. False: no measurement, an old one, or one that is not finite."""
        try:
            position, t_state, _, _ = self.robot.read_state()
        except Exception:  # a driver's fault, whatever it is, must not end the loop
            self.recorder.robot_faults += 1
            return False
        if not t_state or now - t_state > self._max_state_age_ns:
            return False
        if not is_finite(position):
            self.recorder.robot_faults += 1
            return False
        self._state[:] = position
        self.recorder.t_state = t_state
        if not self._sent:  # the limits start where we are
            self._last[:] = position
        return True

    def _obey(self, tick: Tick) -> None:
        """Take the operator's newest order, and see whether the episode is over."""
        if self._commands.head != self._orders_seen:
            index = self._commands.read_latest(self._order)
            if index is not None:
                self._orders_seen = index + 1
                answer = self._take_order(int(self._order["order"]), tick)
                self.recorder.command_index, self.recorder.command_answer = index, answer
        self.episode.advance(tick.k, succeeded=self._succeeded())

    def _succeeded(self) -> bool:
        if self._task is None:
            return False
        try:
            return self._task.succeeded()
        except Exception:
            self.recorder.robot_faults += 1
            return False

    def _take_order(self, number: int, tick: Tick) -> Answer:
        try:
            order = Order(number)
        except ValueError:
            return Answer.REFUSED
        # An order from before control started must not set anything in motion now.
        if tick.t_wake - int(self._order["t_sent"]) > ORDER_VALID_S * 1e9 and order != Order.STOP:
            return Answer.EXPIRED
        return self.episode.obey(order, self._order["text"].item(), tick.k)

    def _choose(self, tick: Tick, fresh: bool) -> Hold:
        """Write what this tick should command to `_target`, or say why it holds."""
        phase = self.episode.phase
        if self.stopping or phase is Phase.STOPPED:
            self.episode.phase = Phase.STOPPED
            return Hold.STOPPED
        if phase is Phase.PAUSED:
            self.swap.forget()
            return Hold.PAUSED
        if not fresh:
            return Hold.NO_STATE
        if not self._sent and not self._is_near_limits():
            return Hold.OUT_OF_LIMITS
        if np.abs(self._last - self._state).max() > self._max_error:
            return Hold.NOT_FOLLOWING
        if phase is Phase.INITIAL_POSE and not self._approach_initial_pose(tick):
            return Hold.NONE
        self.swap.take_newest(tick.k, self.episode.number, self.episode.valid_from)
        return self.swap.target(tick.k, self._target)

    def _is_near_limits(self) -> bool:
        """Whether the measured pose is one that limits can start from: a glitch, or degrees taken
        for radians, must not become the first command."""
        inside = (self._state >= self._first_lower) & (self._state <= self._first_upper)
        return bool(inside.all())

    def _approach_initial_pose(self, tick: Tick) -> bool:
        """One step toward the initial pose. True when an episode begins with this tick."""
        self.swap.forget()
        if not self._has_goal:
            np.copyto(self._goal, self._initial)
            np.copyto(self._goal, self._state, where=np.isnan(self._initial))
            np.clip(self._goal, self.limits.lower, self.limits.upper, out=self._goal)
            self._has_goal = True
        self.approach.apply(self._goal, self._last, self._target)
        if self.dry_run or self._is_at_goal():
            if self.episode.arrived(tick.k):
                self._prepare_episode()
            if self.episode.settled(tick.k):
                self.episode.begin(tick.k, tick.t_wake)
                self._has_goal = False
                return True
        return False

    def _is_at_goal(self) -> bool:
        """Commanded there, and measured there."""
        if not (self._target == self._goal).all():
            return False
        return bool(np.abs(self._state - self._goal).max() <= self._tolerance)

    def _prepare_episode(self) -> None:
        if self._task is None:
            return
        try:
            self._task.prepare_episode()
        except Exception:
            self.recorder.robot_faults += 1

    def _act(self, hold: Hold) -> Hold:
        """Limit and send; or hold. A robot that was never commanded is left as it is.

        Returns `hold`, or NOT_SENT when the driver refused the command.
        """
        if hold is Hold.NONE:
            self.recorder.limited = self.limits.apply(self._target, self._last, self._command)
        else:
            self.recorder.limited = 0
            self._target[:] = self._command[:] = self._last
        if self.dry_run or (hold is not Hold.NONE and not self._sent):
            return hold
        try:
            if hold is Hold.NONE:
                self.robot.publish_action(self._command)
            else:
                self.robot.hold()
        except Exception:
            self.recorder.robot_faults += 1
            self._command[:] = self._last
            return Hold.NOT_SENT if hold is Hold.NONE else hold
        self._last[:] = self._command
        self._sent = True
        return hold
