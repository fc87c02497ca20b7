"""The bytes of a message that a robot's driver accepts, for each type."""

from __future__ import annotations

import numpy as np

from rt.robots.dds.messages import IDL_TYPES, Float32MultiArray, Header, JointState, Time
from rt.robots.igris_c.messages import LOW_STATE, LowState

TYPES = {**IDL_TYPES, "LowState": LowState}


def good(kind: str) -> bytes:
    """One that is never older than the one before: as late as can be, or without a counter."""
    if kind == "LowState":
        return bytes(LowState(np.zeros((), LOW_STATE)).serialize())
    if kind == "Float32MultiArray":
        return Float32MultiArray(data=[0.1] * 12).serialize()
    names = [f"joint {n}" for n in range(12)]
    header = Header(Time(2**31 - 1, 0), "é")
    return JointState(header, names, [0.1] * 12, [0.2] * 12, []).serialize()
