"""What the page is told of a session, as JSON: an object whose keys name the parts that are new.

    session  what does not change: names, joints, cameras, rates; the first that a client gets
    joints   ticks since the last message: what was measured and commanded, and the chunks in use
    look     how everything is now: the snapshot of `rt.inspect --json`, jitter, holds, events
    ended    a sentence; nothing comes after it

What is no finite number is null. Angles are in degrees.

Guarantees:
  - Attaches read-only and registers nothing: a writer cannot notice it, nor be held up by it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt.dashboard.look import Watched
from rt.history import History
from rt.records import Hold, named
from rt.session import Session

WINDOW_S = 10.0  # of joint positions, kept for whoever comes
DRAWN_HZ = 50.0  # at most; a loop that is faster is drawn with every so-manieth tick
SPAN_S = 1.0
EVENTS = 30  # the newest
# 1 us to 100 ms, eight bars a decade; one more bar below and one above.
JITTER_EDGES_NS = np.geomspace(1e3, 1e8, 41)


class Feed:
    """Follows a session and tells of it. Use `follow` often enough that no ring comes round."""

    def __init__(self, session: Session) -> None:
        """Raises NoSessionError when the session is just starting or ending."""
        self._watched = Watched(session, SPAN_S)
        self.config = self._watched.config
        hz = self.config.control_hz
        self._stride = math.ceil(hz / DRAWN_HZ)
        kept = math.ceil(WINDOW_S * hz)
        self._history = History(self._watched.ticks, self._watched.chunks, kept)
        self._new = self._history.ticks

    def close(self) -> None:
        self._watched.close()

    def follow(self) -> bool:
        """Take in what is new. False: the session has ended, and this was the last of it."""
        goes_on = self._watched.follow(0)
        self._new = self._history.update()
        return goes_on

    def hello(self) -> bytes:
        """All that whoever has just come must know."""
        config = self.config
        session = {
            "name": config.run.session,
            "control_hz": config.control_hz,
            "ticks_per_row": config.params.ticks_per_row,
            "window_s": WINDOW_S,
            "joints": config.joint_names,
            "cameras": config.params.camera_names,
            "max_camera_age_ms": config.params.max_age_ms,
        }
        joints = self._joints(self._history.ticks)
        return msgspec.json.encode({"session": session, "joints": joints, "look": self._look()})

    def joints(self) -> bytes:
        """What the last `follow` brought."""
        return msgspec.json.encode({"joints": self._joints(self._new)})

    def look(self) -> bytes:
        """How it is now."""
        return msgspec.json.encode({"look": self._look()})

    def ended(self) -> str:
        """How the session ended, as a sentence."""
        return self._watched.look().end

    def _joints(self, ticks: NDArray[Any]) -> dict[str, Any]:
        drawn = ticks[ticks["tick"] % self._stride == 0]
        first_used = dict(
            zip(ticks["chunk"].tolist(), ticks["chunk_first_used_tick"].tolist(), strict=True)
        )
        return {
            "tick": drawn["tick"].tolist(),
            "measured": _degrees(drawn["state"][:, : len(self.config.joint_names)]),
            "commanded": _degrees(drawn["command"]),
            "chunks": [
                {
                    "id": index,
                    "first_tick": int(chunk["first_tick"]),
                    "first_used_tick": first_used[index],
                    "weights": chunk["weights"].astype(float).round(3).tolist(),
                }
                for index, chunk in self._history.chunks.items()
                if index in first_used
            ],
        }

    def _look(self) -> dict[str, Any]:
        look = self._watched.look()
        silent_s = look.silent_s
        within = look.statistics.wake_error.within(JITTER_EDGES_NS)
        return look.snapshot | {
            "chunk": look.snapshot["chunk"] | {"actions": [], "executed": sorted(look.executed)},
            "silent_ms": None if silent_s is None else 1e3 * silent_s,
            "jitter": {
                "edges_us": (JITTER_EDGES_NS / 1e3).round(2).tolist(),
                "counts": np.diff([0, *within, look.statistics.wake_error.count]).tolist(),
            },
            "holds": {named(Hold, hold): count for hold, count in look.holds.most_common()},
            "events": look.events[-EVENTS:],
        }


def _degrees(radians: NDArray[np.float64]) -> list[list[float]]:
    """(joints, ticks) of (ticks, joints)."""
    with np.errstate(over="ignore"):  # nonsense is shown as what it is
        degrees: list[list[float]] = np.rad2deg(radians).round(2).T.tolist()
    return degrees
