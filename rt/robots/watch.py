"""What a driver on a bus waits for and looks out for: its robot's first state, and third parties.

Guarantees:
  - Whoever else publishes the robot's state, or commands it, is a fault from LOOK_NS after he was
    discovered until he has left.

Assumption:
  - Discovery takes its time: one who was there first may be found after the start. So he is looked
    for again and again, which takes microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rt import clock
from rt.config import Config
from rt.errors import RobotError
from rt.robots.bus import Bus, Publisher, Subscription
from rt.robots.robot import State

POLL_S = 0.001  # while waiting for the first state
LOOK_NS = 500_000_000  # how often others are looked for


class Watch:
    """The topics of one robot, by name: those with its state and those that command it."""

    def __init__(
        self,
        config: Config,
        states: Mapping[str, Subscription],
        commands: Mapping[str, Publisher],
    ) -> None:
        self._config = config
        self._states = states
        self._commands = commands
        self._fault = ""
        self._next_look = 0

    def wait_for_state(
        self,
        read_state: Callable[[], State],
        bus: Bus,
        why_missing: Callable[[dict[str, str]], str],
    ) -> None:
        """Return once a state has come. Raises RobotError when none does within the robot's
        `state_timeout_s`, or when somebody else commands it.

        why_missing: says what was expected and did not come, given what others publish.
        """
        robot, domain = self._config.robot, self._config.run.domain
        deadline = time.monotonic() + robot.state_timeout_s
        while not read_state().t_capture:
            if time.monotonic() > deadline:
                there = bus.topics()
                listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(there.items()))
                remedy = "check the robot_id and the domain"
                if not there:
                    remedy = "is the robot on, in this network, and ROS_DOMAIN_ID its own?"
                raise RobotError(
                    f"no state from {robot.name} within {robot.state_timeout_s:g} s on domain "
                    f"{domain}: {why_missing(there)}. Published there: {listed or 'nothing'}; "
                    f"{remedy}"
                )
            time.sleep(POLL_S)
        if commander := self._commander():
            raise RobotError(f"expected nobody else to command {robot.name}, but {commander}")

    def fault(self) -> str:
        """Who else is there, "" if nobody. Looks every LOOK_NS only."""
        now = clock.now_ns()
        if now >= self._next_look:
            self._next_look = now + LOOK_NS
            self._fault = self._commander() or self._twin()
        return self._fault

    def _commander(self) -> str:
        for topic, publisher in self._commands.items():
            if publisher.others:
                domain = self._config.run.domain
                return f"{topic} is published on domain {domain}: stop the other program"
        return ""

    def _twin(self) -> str:
        for topic, subscription in self._states.items():
            if (publishers := subscription.publishers) > 1:
                return f"{publishers} publishers on {topic}: two robots with one id, or one domain?"
        return ""
