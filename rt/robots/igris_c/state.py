"""`rt/lowstate`: the newest message, taken over or refused, and what it says is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt.arrays import Vector
from rt.robots.bus import Subscription
from rt.robots.igris_c.messages import LOW_STATE_TOPIC, MOTORS, LowState
from rt.robots.igris_c.options import Wiring
from rt.robots.intake import Intake

RESTARTED = 3  # messages in a row whose tick is behind: the robot's own counter began anew
HALF = 1 << 31  # of the counter's 32 bits


class StateReader:
    """The 31 positions, in the space of the kinematic mode."""

    def __init__(self, subscription: Subscription, wiring: Wiring) -> None:
        self.q: Vector = np.full(MOTORS, np.nan)  # rad, by index
        self.fault = ""  # what the newest message says is wrong with the robot
        self.intake = Intake(LOW_STATE_TOPIC, subscription)
        self._wiring = wiring
        self._space = "motor_state" if wiring.mode == "ms" else "joint_state"
        self._tick = 0
        self._behind = 0  # messages in a row

    def update(self) -> None:
        """Take the newest message, unless it must be refused."""
        taken = self.intake.take()
        if taken is None:
            return
        message, t_published = taken
        record = message.record
        self.fault = self._errors_in(record)  # of a message that is refused, too
        q = record[self._space]["q"]
        if not np.isfinite(q).all():
            self.intake.refuse(f"{self._space}[{np.isfinite(q).argmin()}].q is not finite")
            return
        if not self._in_order(int(record["tick"])):
            self.intake.refuse(f"tick {record['tick']} after {self._tick}")
            return
        self.q[:] = q
        self.intake.accept(t_published)

    def why_missing(self, there: dict[str, str]) -> str:
        """Why no state has come, given what others publish."""
        expected = LowState.__idl_typename__
        # The bus tells `rt/x` as `/x` where the type's name is of ROS's kind.
        got = there.get(LOW_STATE_TOPIC) or there.get(LOW_STATE_TOPIC.removeprefix("rt"))
        if not got:
            return f"expected {LOW_STATE_TOPIC} ({expected}), which nobody publishes"
        if got != expected:
            return f"expected {LOW_STATE_TOPIC} to be {expected}, got {got}: another SDK's?"
        return f"expected good messages of {expected}, got none: {self.intake.late}"

    def _in_order(self, tick: int) -> bool:
        """Whether a message is newer than the one before; a robot may count anew, or not at all."""
        if self.intake.t_published and tick == self._tick != 0:
            return False  # a gateway that repeats what a silent robot said last
        behind = self.intake.t_published and (tick - self._tick) % (2 * HALF) >= HALF
        self._behind = self._behind + 1 if behind else 0
        if self._behind and self._behind < RESTARTED:
            return False
        self._tick, self._behind = tick, 0
        return True

    def _errors_in(self, record: Any) -> str:
        motors, joints = record["motor_state"]["status_bits"], record["joint_state"]["status_bits"]
        if not (motors.any() or joints.any()):
            return ""
        errors = [
            f"{axis} {index} ({self._wiring.names[index]}): {self._named(int(bits[index]))}"
            for axis, bits in (("motor", motors), ("joint", joints))
            for index in np.flatnonzero(bits)
        ]
        more = f"; and {len(errors) - 1} more" if errors[1:] else ""
        return errors[0] + more

    def _named(self, bits: int) -> str:
        names = self._wiring.status_bits
        return ", ".join(names.get(bit, f"bit {bit}") for bit in range(32) if bits >> bit & 1)
