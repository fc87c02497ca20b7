"""One tick: sense, obey, choose, send, record.

Guarantees:
  - What goes to the robot is what `Sender` promises; before a gated run's `go` nothing does.
  - Nothing here raises in a tick, allocates without bound, logs, locks, opens a file or waits.
    What goes wrong is a counter and a named hold in the tick record, with words.
Assumptions:
  - One thread; the caller waits for the ticks (`Ticker`).
"""

from __future__ import annotations

from collections.abc import Callable

from rt.config import Config
from rt.control.approach import Approach
from rt.control.episode import Episode
from rt.control.following import Following
from rt.control.recorder import Recorder
from rt.control.sender import Sender
from rt.control.senses import Senses
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
        self._yielding = False  # in this tick
        self._may_go = False
        self._since = ""  # why `go` is needed once more
        self._control_hz = config.control_hz

        self.recorder = Recorder(ticks, dry_run=config.run.dry_run)
        self.record = self.recorder.record
        self.senses = Senses(config, robot, self.recorder)
        self.sender = Sender(config, robot, self.recorder)
        self.approach = Approach(config, robot, self.recorder)
        self.following = Following(config)

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
        self._yielding = False
        sensed = self.senses.look(tick.t_wake)
        if self.senses.measured and not self.sender.sent:  # the limits start where it is
            self.sender.last[:] = self.senses.state
        self._obey(tick)
        hold = self._act(self._choose(tick, sensed))
        self._may_go = hold is Hold.WAITING and self._chunks.head > 0
        executing = hold is Hold.NONE and self.episode.phase is Phase.RUN
        if executing:
            self.swap.used(tick.k)
        self.recorder.skip(skipped, planned=planned)
        self.recorder.publish(tick, hold, executing, self.episode, self.swap)

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
        return self._task is not None and self._ask(self._task.succeeded)

    def _ask(self, task: Callable[[], object]) -> bool:
        """What the robot's task answers; False where it raises, which must not end the loop."""
        try:
            return bool(task())
        except Exception as error:
            self.recorder.count_fault(error)
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
        self._judge(tick.k, sensed)
        if self.stopping or self.episode.phase is Phase.STOPPED:
            self.episode.phase = Phase.STOPPED
            return Hold.STOPPED
        if self.senses.measured and self._yields(tick.k):
            return sensed if sensed is Hold.ROBOT_FAULT else Hold.NOT_FOLLOWING
        if self.episode.phase is Phase.PAUSED:
            self.swap.forget()
            return Hold.PAUSED
        if sensed is not Hold.NONE:
            return sensed
        if not self.sender.sent and not self.senses.is_near_limits():
            return Hold.OUT_OF_LIMITS
        if self.episode.phase is Phase.WAITING:
            return self._wait()
        if self.episode.phase is Phase.INITIAL_POSE:
            self.swap.forget()
            if not self.approach.find_goal(self.senses.state):
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
        if self.following.look(self.sender.last, self.senses.state):
            self.swap.forget()
            self.approach.over()  # a joint without an initial pose stays where it is now
            self.recorder.why = self.recorder.why or self.following.why
            self._ask_again(k)
            self._yielding = True
            return True
        if before:
            self.episode.start_afresh(k)
        return False

    def _judge(self, k: int, sensed: Hold) -> None:
        """What becomes of a robot that reports a fault, is lost, or is found again."""
        if self.senses.found and self.sender.sent:
            if self.episode.phase is not Phase.WAITING:  # where it was asked already
                self._ask_again(k, "it was silent")
            self._find_again(k)
        elif self.senses.lost or sensed is Hold.ROBOT_FAULT:
            self._ask_again(k)

    def _find_again(self, k: int) -> None:
        """The robot is back, perhaps somewhere else: start as from a first measurement."""
        self.sender.start_from(self.senses.state)
        self.following.tripped = False
        self.approach.over()
        self.swap.forget()
        self.episode.start_afresh(k)

    def _ask_again(self, k: int, since: str = "") -> None:
        """Something may have happened to the robot: whoever runs it gated says `go` once more."""
        if self.sender.sent:
            self._since = since or self.recorder.why
            self.episode.await_go(k)

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
        if self.dry_run or self.approach.is_there(self.sender.last, self.senses.state):
            if self.episode.arrived(tick.k) and self._task is not None:
                self._ask(self._task.prepare_episode)
            if self.episode.settled(tick.k):
                self.episode.begin(tick.k, tick.t_wake)
                self.approach.over()
                return True
        return False

    def _act(self, hold: Hold) -> Hold:
        """Send the target, or hold. Returns `hold`, or NOT_SENT when the driver refused."""
        if hold is Hold.NONE:
            approaching = self.episode.phase is Phase.INITIAL_POSE
            return self.sender.move(speed=self.approach.speed if approaching else None)
        self.sender.hold(self.following.pose if self._yielding else None)
        return hold
