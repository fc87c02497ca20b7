"""What is wrong with the commands that a fake robot, by its own report, was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rt.config import Config
from rt.robots.fake.report import Stream
from rt.robots.topics.wiring import command_wires

SINGLE_PRECISION_DEG = 1e-4  # on the wire
CLOCK_MS = 1.0  # the wall clock, by which commands are stamped, may be slewed


def slews_deg(config: Config) -> dict[str, float]:
    """How far a command on each topic may be from the one before; of its joints the least."""
    limits = np.degrees(config.max_delta_rad_per_tick)
    return {
        wire.topic: float(min(limits[joints].min() for a in wire.arrays for _, joints in a.parts))
        for wire in command_wires(config)
    }


def strays(
    heard: Iterable[tuple[str, Stream]], config: Config, *, steady: bool = True
) -> list[str]:
    """Of each topic's commands. `steady`: each comes in its tick, and is stamped by a clock that
    nobody sets, so that their pace tells something."""
    limits, period_ms = slews_deg(config), config.period_ns / 1e6 if steady else 0.0
    return [
        f"{topic}: {words}"
        for topic, stream in heard
        for words in _strays(stream, limits[topic] + SINGLE_PRECISION_DEG, period_ms)
    ]


def _strays(stream: Stream, slew_deg: float, period_ms: float) -> Iterator[str]:
    for step_deg, what in (
        (stream.first_step_deg, "from the pose to a first command"),
        (stream.largest_step_deg, "between two commands"),
        (stream.resumed_step_deg, "after a second of silence"),
    ):
        if step_deg > slew_deg:
            yield f"a step of {step_deg:.3f} deg {what}"
    if stream.outside_deg > SINGLE_PRECISION_DEG:
        yield f"a command {stream.outside_deg:.3f} deg beyond the position limits"
    if 0 < stream.three_within_ms < period_ms - CLOCK_MS:
        yield f"three commands within {stream.three_within_ms:.1f} ms"
    if stream.returned:
        yield f"two senders at once: {stream.returned} times one spoke again after another"
    if stream.refused:
        yield f"{stream.refused} commands that it had to refuse"
