"""Every error that this package raises on purpose.

RtError                       exit code 2: a user's mistake, told in one sentence
├── ConfigError               a flag, a file, a key or a value is wrong
├── MissingPackageError       an optional package is absent (the message is its pip command)
├── PolicyError               a policy cannot be built or run
│   ├── CheckpointError       its checkpoint is missing, unsafe or does not fit
│   └── NoAnswerError         it gave no chunk this time, through no fault of its own
├── RealtimeError             --require_rt, and the kernel did not grant it
├── RobotError                the robot cannot be reached or answers nonsense
├── SessionError              a session's name or its files are in a bad state
│   ├── SessionLiveError      the session is already running
│   └── NoSessionError        exit code 3: there is no such session
├── WireError                 a message over the network is not what it should be (rt.wire.codec)
└── ShmError                  shared memory
    ├── ShmFullError          /dev/shm has no room for the segment
    ├── SegmentExistsError    the name is taken
    ├── SegmentMissingError   nothing has that name
    ├── LayoutError           the segment is not one of ours, or has another layout or version
    ├── WriterAliveError      the ring's recorded writer lives; a ring has one
    ├── RingUsageError        commit without begin, writing through a reader, a foreign buffer
    └── FenceError            this CPU has no memory fence that we know to be right

A message says what, what was expected, what came, and the command or key that mends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt.records import Outcome

LONGEST = 1000  # characters of a sentence


class RtError(Exception):
    """Root of the tree. `exit_code` is what the command line ends with.

    As text it is one line whatever a file's keys and names hold: no line breaks, no terminal's
    control sequences, no page of a bomb's content.
    """

    exit_code = 2

    def __str__(self) -> str:
        said = super().__str__()
        if len(said) > 4 * LONGEST:  # cut before it is escaped: it may be megabytes of somebody's
            said = said[: 2 * LONGEST] + said[-2 * LONGEST :]
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in said)
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 3 :]}"
        return text


class ConfigError(RtError):
    """A flag, a file, a key or a value is wrong."""


class MissingPackageError(RtError):
    """An optional package is absent."""


class PolicyError(RtError):
    """A policy cannot be built or run."""


class CheckpointError(PolicyError):
    """A checkpoint is missing, unsafe or does not fit its model."""


class NoAnswerError(PolicyError):
    """The policy gave no chunk this time, through no fault of its own: it is on another machine.

    The robot goes on with what it has, and asks again; `outcome` says what happened.
    """

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


class RealtimeError(RtError):
    """A real-time right was required and not granted."""


class RobotError(RtError):
    """The robot cannot be reached or answers nonsense."""


class SessionError(RtError):
    """A session's name or its files are in a bad state."""


class SessionLiveError(SessionError):
    """The session is already running."""


class NoSessionError(SessionError):
    """There is no such session."""

    exit_code = 3


class ShmError(RtError):
    """Root of the shared-memory errors."""


class ShmFullError(ShmError):
    """/dev/shm has no room for the segment."""


class SegmentExistsError(ShmError):
    """The segment's name is taken."""


class SegmentMissingError(ShmError):
    """Nothing has that name."""


class LayoutError(ShmError):
    """The segment is not one of ours, or has another layout or version."""


class WriterAliveError(ShmError):
    """The ring's recorded writer lives."""


class RingUsageError(ShmError):
    """The ring was used against its contract."""


class FenceError(ShmError):
    """This CPU has no memory fence that we know to be right."""
