"""The records that cross between processes: one numpy dtype per ring, and their enums.

Ring            writer       record
tick            control      what one tick did (`tick_dtype`); the one record of what happened
chunk           inference    one action chunk and how it came about (`chunk_dtype`)
frame.<camera>  camera, sim  one image (`frame_dtype`)
command         operator     the mailbox: one order to control (`COMMAND`)
status.<name>   that process its pid, state and heartbeat (`STATUS`)
session         supervisor   the whole configuration, as JSON (`SESSION`)
sim.state       sim          joint positions of the simulated robot (`sim_state_dtype`)
sim.command     control      joint targets for the simulated robot (`sim_command_dtype`)

All times are CLOCK_MONOTONIC, integer nanoseconds. Angles are radians. Indices are ring indices;
-1 means "none". State and command are float64, so that rounding cannot push one over a limit;
a chunk is float32, as policies compute it.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np

PROMPT_BYTES = 512
WHY_BYTES = 160


class Phase(IntEnum):
    """What control is doing."""

    INITIAL_POSE = 0  # moving to the initial pose under the slew limit, before an episode
    RUN = 1  # executing chunks
    PAUSED = 2  # holding, on the operator's word
    STOPPED = 3  # holding for good; the loop is about to end
    WAITING = 4  # a real robot stands still until the operator's `go`


class Hold(IntEnum):
    """Why a tick held the last command instead of executing a row."""

    NONE = 0  # it did not hold
    NO_CHUNK = 1  # no chunk of this episode has arrived yet
    NOT_DUE = 2  # the only chunk starts in a later tick
    EXPIRED = 3  # the chunk's last row has been executed
    STARVED = 4  # chunks keep arriving, each already expired
    NOT_FINITE = 5  # the row holds a NaN or an infinity
    NO_STATE = 6  # the robot has not reported a fresh, finite state
    PAUSED = 7  # the operator paused
    STOPPED = 8  # the session is ending
    NOT_SENT = 9  # the robot's driver refused the command: it keeps the one before
    OUT_OF_LIMITS = 10  # never commanded yet, and measured outside the position limits
    NOT_FOLLOWING = 11  # the robot is too far from what it was commanded: control yields
    WAITING = 12  # for the operator's `go`
    WARMUP = 13  # the first `warmup_ticks` rows of an episode are not sent
    ROBOT_FAULT = 14  # the robot says that something is wrong with it


class Order(IntEnum):
    """What an operator can ask of control (`python -m rt.command`)."""

    PAUSE = 1
    RESUME = 2
    STOP = 3
    NEXT_EPISODE = 4
    PROMPT = 5
    SUCCESS = 6
    GO = 7


PLANNED_IN = (Phase.RUN, Phase.WAITING)  # what inference computes while waiting is a preview
# Nothing that is seen in such a tick will be executed.
UNSEEN = (Hold.NO_STATE, Hold.ROBOT_FAULT, Hold.NOT_FOLLOWING)

ORDER_VALID_S = 2.0  # an order that control did not answer within this is void, but for STOP


class Answer(IntEnum):
    """Control's answer to an order, in the tick record beside `command_index`."""

    NONE = 0
    DONE = 1
    REFUSED = 2  # makes no sense in this phase
    EXPIRED = 3  # it waited longer than ORDER_VALID_S, and its operator was told that it failed


class Outcome(IntEnum):
    """What came of asking a policy on another machine for a chunk."""

    OK = 0
    TOO_LATE = 1  # no answer within the deadline
    LOST = 2  # the connection broke while the answer was awaited
    UNREACHABLE = 3  # there is no connection
    WRONG = 4  # an answer came, and it is no chunk for this robot


UNANSWERED = tuple(outcome for outcome in Outcome if outcome is not Outcome.OK)


def tick_dtype(state_dim: int, action_dim: int) -> np.dtype[np.void]:
    """One tick. `state` (state_dim,) rad as measured, `command` (action_dim,) rad as sent."""
    return np.dtype(
        [
            ("tick", "i8"),
            ("episode", "i8"),
            ("episode_t_start", "i8"),  # a frame captured earlier belongs to an older episode
            ("valid_from_tick", "i8"),  # chunks observed at an earlier tick are void
            ("t_due", "i8"),
            ("t_wake", "i8"),
            ("t_done", "i8"),
            ("t_state", "i8"),  # when `state` was measured
            ("phase", "i4"),
            ("hold", "i4"),
            ("why", f"S{WHY_BYTES}"),  # utf-8; of the hold, in words, where there is more to say
            ("chunk", "i8"),  # ring index of the chunk in use
            ("chunk_first_tick", "i8"),
            ("chunk_first_used_tick", "i8"),  # the tick that first executed a row of it
            ("row", "f8"),  # row executed, fractional between rows; -1 when holding
            ("command_index", "i8"),  # newest order taken from the mailbox
            ("command_answer", "i4"),
            ("limited", "i4"),  # joints that a limit changed in this tick
            # Counters, since the start.
            ("overruns", "i8"),  # due ticks that were skipped because this loop was late
            ("planning", "i8"),  # due ticks skipped because sequential mode was planning
            ("holds", "i8"),  # ticks held, but for the operator and for the warm-up
            ("moves", "i8"),  # ticks spent on the way to the initial pose
            ("not_finite", "i8"),  # ticks whose row was not finite
            ("expired_chunks", "i8"),  # chunks that arrived after their last row was due
            ("robot_faults", "i8"),  # reads or sends that the robot failed
            ("episodes", "i8"),  # episodes ended
            ("successes", "i8"),  # of those, successful
            ("success", "i4"),  # this episode has been marked successful
            ("dry_run", "i4"),
            ("prompt", f"S{PROMPT_BYTES}"),  # utf-8; empty: the policy's default
            ("state", "f8", (state_dim,)),
            ("target", "f8", (action_dim,)),  # what the policy wanted (= command when holding)
            ("command", "f8", (action_dim,)),  # what was sent, after limits
        ]
    )


# Of an inference, each timed in its chunk; first what a policy tells of itself (`latency`).
POLICY_PARTS = ("network", "queue", "encode", "denoise")
PARTS = ("observe", *POLICY_PARTS, "publish")


def chunk_dtype(horizon: int, action_dim: int) -> np.dtype[np.void]:
    """One chunk. `actions` (H, A) float32 in absolute robot units; row i is meant for tick
    first_tick + i * ticks_per_row."""
    return np.dtype(
        [
            ("first_tick", "i8"),
            ("obs_tick", "i8"),  # the tick record that the observation was built from
            ("episode", "i8"),
            ("mode", "S24"),
            ("cold", "i4"),  # nothing was being executed at the observation
            ("d_planned", "i4"),  # rows
            ("s", "i4"),  # rows of the previous chunk executed at the observation
            ("previous_chunk", "i8"),  # ring index of the chunk that the leftover came from
            ("previous_d_counted", "i4"),  # of the chunk published before; -1: not counted
            ("t_start", "i8"),  # this inference began
            ("t_publish", "i8"),  # just before commit
            ("observe_ns", "i8"),
            ("network_ns", "i8"),  # of a policy on another machine, there and back; else 0
            ("queue_ns", "i8"),  # it waited there for other robots' chunks; else 0
            ("encode_ns", "i8"),
            ("denoise_ns", "i8"),  # all of the policy's time, if it does not tell its parts
            ("publish_ns", "i8"),  # fill the slot
            ("weights", "f4", (horizon,)),  # prefix weights W
            ("actions", "f4", (horizon, action_dim)),
        ]
    )


def frame_dtype(height: int, width: int) -> np.dtype[np.void]:
    """One RGB image, channels first."""
    return np.dtype([("t_capture", "i8"), ("image", "u1", (3, height, width))])


COMMAND = np.dtype([("order", "i4"), ("t_sent", "i8"), ("text", f"S{PROMPT_BYTES}")])

STATUS = np.dtype(
    [
        ("pid", "i8"),
        ("state", "S24"),
        ("heartbeat", "i8"),  # ns; 0: this process beats through another ring
        ("progress", "f8"),  # 0..1 while loading and warming up
        ("late", "i8"),  # inference: chunks whose counted delay exceeded the planned one
        ("dropped", "i8"),  # inference: chunks of a wrong shape, not finite, or raised at
        ("outcomes", "i8", (len(Outcome),)),  # inference: how often a remote policy's was each
        ("detail", "S8192"),  # what it is doing, or JSON for readers that know the process
    ]
)

AT_WORK = ("ready", "running")  # states of a process that does what it is there for
OVER = ("ended", "failed")  # states of a process that has said its last word

SESSION = np.dtype([("json", "S65536")])


def text(field: Any) -> str:
    """A record's bytes field as a string."""
    decoded: str = field.item().decode(errors="replace")
    return decoded


def named(kind: type[IntEnum], value: Any) -> str:
    """The member's name; the number, if it was written by another version."""
    return kind(value).name if int(value) in list(kind) else str(value)


def counted_delay(first_tick: Any, first_used_tick: Any, ticks_per_row: int) -> int:
    """A chunk's delay d, in rows: one that had begun when it was first used counts whole."""
    return math.ceil((int(first_used_tick) - int(first_tick)) / ticks_per_row)


def camera_child(camera: str) -> str:
    """The name of a camera's process; its status ring is `status.<name>`."""
    return f"camera.{camera}"


def sim_state_dtype(state_dim: int) -> np.dtype[np.void]:
    """The simulated robot's measurement. `scene` counts the scenes drawn, `reached` is 1 once
    the hand has been at the target in this scene."""
    return np.dtype(
        [("t_capture", "i8"), ("scene", "i8"), ("reached", "i4"), ("position", "f8", (state_dim,))]
    )


def sim_command_dtype(action_dim: int) -> np.dtype[np.void]:
    """Joint targets. A `scene` newer than the simulator's makes it draw a new scene."""
    return np.dtype([("t_sent", "i8"), ("scene", "i8"), ("position", "f8", (action_dim,))])
