"""One tick: sense, obey, choose, send, record.

Guarantees:
  - What goes to the robot is what `Sender` promises; before a gated run's `go` nothing does.
  - Nothing here raises in a tick, allocates without bound, logs, locks, opens a file or waits.
    What goes wrong is a counter and a named hold in the tick record, with words.
Assumptions:
  - One thread; the caller waits for the ticks (`Ticker`).
"""

from __future__ import annotations

import numpy as np

from rt.config import Config
from rt.control.approach import Approach
from rt.control.episode import Episode
from rt.control.following import Following
from rt.control.limits import is_finite
from rt.control.recorder import Recorder
from rt.control.sender import Sender
from rt.control.swap import Swap
from rt.control.ticker import Tick
from rt.records import ORDER_VALID_S, Answer, Hold, Order, Phase
from rt.robots.robot import Robot, State, Task
from rt.shm import Ring

SETTLE_S = 0.25  # at the initial pose, before an episode begins
LOST_S = 1.0  # silent for longer, a robot may have been restarted, or moved


class ControlLoop:
    """The state of control between ticks, and `tick`."""

    def __init__(
        self, config: Config, robot: Robot, *, ticks: Ring, chunks: Ring, commands: Ring
    ) -> None:
        """`ticks` is written here; `chunks` and `commands` are read."""
        params, facts = config.params, config.robot
        self.robot = robot
        self._task = robot if isinstance(robot, Task) else None
        self.episode = Episode(
            params.episode_ticks * params.ticks_per_row,
            round(SETTLE_S * config.control_hz),
            warmup_ticks=params.warmup_ticks * params.ticks_per_row,
            gated=config.gated,
        )
        self.swap = Swap(chunks, params.ticks_per_row)
        self.dry_run = config.run.dry_run
        self.stopping = False

        self._commands = commands
        self._order = commands.buffer()
        self._orders_seen = 0
        self._chunks = chunks
        self._measured = False  # in this tick
        self._yielding = False  # in this tick
        self._may_go = False
        self._since = ""  # why `go` is needed once more
        self._missing_since = 0  # when the measurement was not good for the first time, ns
        self._control_hz = config.control_hz
        self._max_state_age_ns = facts.max_state_age_ms * 1_000_000
        margin = np.deg2rad(facts.limit_margin_deg)
        self._first_lower = config.lower_rad - margin
        self._first_upper = config.upper_rad + margin

        self.recorder = Recorder(ticks, dry_run=config.run.dry_run)
        self.record = self.recorder.record
        self.sender = Sender(config, robot, self.recorder)
        self.approach = Approach(config, robot, self.recorder)
        self.following = Following(config)
        self._state = self.record["state"]  # the record's own field
        self._state.fill(np.nan)

    @property
    def at_rest(self) -> bool:
        """Whether the last command was to stay: what an acceleration bound may take time for."""
        return not self.sender.limits.moving

    def tick(self, tick: Tick, *, skipped: int = 0, planned: bool = False) -> None:
        """Do one tick and publish its record.

        `skipped`: due ticks passed over before this one. `planned`: because sequential mode was
        planning, else because the loop was late.
        """
        self.recorder.why = ""
        self._measured = self._yielding = False
        sensed = self._sense(tick.t_wake)
        self._obey(tick)
        hold = self._act(self._choose(tick, sensed))
        self._may_go = hold is Hold.WAITING and self._chunks.head > 0
        executing = hold is Hold.NONE and self.episode.phase is Phase.RUN
        if executing:
            self.swap.used(tick.k)
        self.recorder.skip(skipped, planned=planned)
        self.recorder.publish(tick, hold, executing, self.episode, self.swap)

    def _sense(self, now: int) -> Hold:
        """Read the robot. NO_STATE: no measurement, an old one, or one that is not finite."""
        try:
            return self._look(now)
        except Exception as error:  # a driver's fault, whatever it is, must not end the loop
            self.recorder.count_fault(error)
            return Hold.NO_STATE

    def _look(self, now: int) -> Hold:
        state = self.robot.read_state()
        sensed = self._take(now, state)  # a robot with a fault is watched all the more
        if state.fault:
            self.recorder.why = state.fault
            return Hold.ROBOT_FAULT
        return sensed

    def _take(self, now: int, state: State) -> Hold:
        """Take the measurement over, if it is one."""
        position, t_state, _, late = state
        if not t_state or abs(now - t_state) > self._max_state_age_ns:
            self.recorder.why = late if now >= t_state else "its time lies in the future"
            return Hold.NO_STATE
        if not is_finite(position):
            self.recorder.robot_faults += 1
            self.recorder.why = "the measured state is not finite"
            return Hold.NO_STATE
        self._state[:] = position
        self.recorder.t_state = t_state
        if not self.sender.sent:  # the limits start where we are
            self.sender.last[:] = position
        self._measured = True
        return Hold.NONE

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
        if order is Order.GO:
            if not self._may_go:
                return Answer.REFUSED
            self._since = ""
        return self.episode.obey(order, self._order["text"].item(), tick.k)

    def _choose(self, tick: Tick, sensed: Hold) -> Hold:
        """Write what this tick should command to the target, or say why it holds."""
        self._miss(tick, sensed)
        if self.stopping or self.episode.phase is Phase.STOPPED:
            self.episode.phase = Phase.STOPPED
            return Hold.STOPPED
        if self._measured and self._yields(tick.k):
            return sensed if sensed is Hold.ROBOT_FAULT else Hold.NOT_FOLLOWING
        if self.episode.phase is Phase.PAUSED:
            self.swap.forget()
            return Hold.PAUSED
        if sensed is not Hold.NONE:
            return sensed
        if not self.sender.sent and not self._is_near_limits():
            return Hold.OUT_OF_LIMITS
        if self.episode.phase is Phase.WAITING:
            return self._wait()
        if self.episode.phase is Phase.INITIAL_POSE:
            self.swap.forget()
            if not self.approach.find_goal(self._state):
                return Hold.ROBOT_FAULT
            if not self._begins(tick):
                self.sender.target[:] = self.approach.goal
                return Hold.NONE
        if left := self.episode.warm_up_left(tick.k):
            self.swap.forget()
            self.recorder.why = f"{left / self._control_hz:.0f} s left"
            return Hold.WARMUP
        self.swap.take_newest(tick.k, self.episode.number, self.episode.valid_from)
        return self.swap.target(tick.k, self.sender.target)

    def _yields(self, k: int) -> bool:
        """Whether the robot is not where it was commanded, or was not a moment ago."""
        if not self.sender.sent:
            return False
        before = self.following.tripped
        if self.following.look(self.sender.last, self._state):
            self.swap.forget()
            self.approach.over()  # a joint without an initial pose stays where it is now
            self.recorder.why = self.recorder.why or self.following.why
            self._ask_again(k)
            self._yielding = True
            return True
        if before:
            self.episode.start_afresh(k)
        return False

    def _miss(self, tick: Tick, sensed: Hold) -> None:
        """Note since when there is no good measurement, and what becomes of a robot that was lost.

        Ticks that were skipped, by planning in sequential mode say, do not count unless a look
        before them failed.
        """
        missing_since = self._missing_since or tick.t_wake
        lost = tick.t_wake - missing_since > LOST_S * 1e9
        if sensed is Hold.NONE:
            self._missing_since = 0
            if lost and self.sender.sent:
                if self.episode.phase is not Phase.WAITING:  # where it was asked already
                    self._ask_again(tick.k, "it was silent")
                self._find_again(tick.k)
        else:
            self._missing_since = missing_since
            if lost or sensed is Hold.ROBOT_FAULT:
                self._ask_again(tick.k)

    def _find_again(self, k: int) -> None:
        """The robot is back, perhaps somewhere else: start as from a first measurement."""
        self.sender.start_from(self._state)
        self.following.tripped = False
        self.approach.over()
        self.swap.forget()
        self.episode.start_afresh(k)

    def _ask_again(self, k: int, since: str = "") -> None:
        """Something may have happened to the robot: whoever runs it gated says `go` once more."""
        if self.sender.sent:
            self._since = since or self.recorder.why
            self.episode.await_go(k)

    def _is_near_limits(self) -> bool:
        """Whether the measured pose is one that limits can start from: a glitch, or degrees taken
        for radians, must not become the first command."""
        inside = (self._state >= self._first_lower) & (self._state <= self._first_upper)
        return bool(inside.all())

    def _wait(self) -> Hold:
        """Stand still until `go`; it is refused before there is a chunk to look at."""
        self.swap.forget()
        self.recorder.why = "for the first chunk"
        if self._chunks.head:
            self.recorder.why = "for rt.command go"
            if self._since:
                self.recorder.why += f", since {self._since}"
        return Hold.WAITING

    def _begins(self, tick: Tick) -> bool:
        """Whether an episode begins with this tick: at the initial pose, and settled there."""
        if self.dry_run or self.approach.is_there(self.sender.last, self._state):
            if self.episode.arrived(tick.k):
                self._prepare_episode()
            if self.episode.settled(tick.k):
                self.episode.begin(tick.k, tick.t_wake)
                self.approach.over()
                return True
        return False

    def _prepare_episode(self) -> None:
        if self._task is None:
            return
        try:
            self._task.prepare_episode()
        except Exception:
            self.recorder.robot_faults += 1

    def _act(self, hold: Hold) -> Hold:
        """Send the target, or hold. Returns `hold`, or NOT_SENT when the driver refused."""
        if hold is Hold.NONE:
            approaching = self.episode.phase is Phase.INITIAL_POSE
            return self.sender.move(speed=self.approach.speed if approaching else None)
        self.sender.hold(self.following.pose if self._yielding else None)
        return hold
