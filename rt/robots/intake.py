"""A topic's messages as a driver takes them: the newest good one counts, and a bad one is named."""

from __future__ import annotations

from typing import Any

from rt.errors import RobotError
from rt.robots.bus import Subscription


class Intake:
    """One topic with a part of the state on it."""

    def __init__(self, topic: str, subscription: Subscription) -> None:
        self.subscription = subscription
        self.t_published = 0  # of the newest good message, ns; 0: none yet
        self.refused = 0  # messages, since the start
        self.late = f"{topic}: nothing has come yet"
        self._topic = topic

    def take(self) -> tuple[Any, int] | None:
        """As the subscription does; what does not decode is refused."""
        try:
            return self.subscription.take()
        except RobotError as error:
            self.refuse(str(error))
            return None

    def refuse(self, why: str) -> None:
        """The message is no good: the state grows old until another one is."""
        self.refused += 1
        self.late = f"{self._topic}: refused {self.refused}, {why}"

    def accept(self, t_published: int) -> None:
        """The message was taken over."""
        self.t_published = t_published
        self.late = f"nothing new on {self._topic}"
