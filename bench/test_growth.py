"""How cost grows: with joints and rows for control's tick and swap, with cameras for observations.

All sizes by turns, so that what a busy machine adds, it adds to all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from fed_loop import FedLoop, as_control, executing
from feed import session_for
from results import keep, report

from rt import clock
from rt.config import ImageSize, JointGroup
from rt.infer.observation import Observer
from rt.session import Session
from rt.testing import config

SIZES = {"joints": (7, 14, 24, 48, 128), "rows": (10, 50, 100, 200), "cameras": tuple(range(7))}
COSTS = ("ticks", "swaps", "observations")
IMAGE = ImageSize(width=320, height=240)
TICKS = 100  # of one size in one round
Key = tuple[str, str, int]  # over what, whose cost, the size
Call = Callable[[int], list[int]]

_count = itertools.count()


class Sized:
    """A control loop of some size, and inference's view of it."""

    def __init__(self, session: Session, fed: FedLoop, observer: Observer, cameras: int) -> None:
        self._fed = fed
        self._observer = observer
        self._frames = [session.writer(f"frame.camera{i}") for i in range(cameras)]
        self._image = [ring.buffer() for ring in self._frames]

    def ticks(self, count: int) -> list[int]:
        """How long ticks of the same chunk take, ns."""
        self.swap()
        return [self.tick() for _ in range(count)]

    def swaps(self, count: int) -> list[int]:
        """How long ticks that take a new chunk take, ns."""
        return [self.swap() for _ in range(count)]

    def observations(self, count: int) -> list[int]:
        """How long observations with new frames take, ns."""
        return [self.observe() for _ in range(count)]

    def swap(self) -> int:
        self._fed.infer()
        return self.tick()

    def tick(self) -> int:
        self._fed.measure()
        took = self._fed.tick_now()
        assert self._fed.executing
        return took

    def observe(self) -> int:
        for ring, image in zip(self._frames, self._image, strict=True):
            image["t_capture"] = clock.now_ns()
            ring.write(image)
        start = clock.now_ns()
        observation = self._observer.observe(self._fed.loop.record)
        took = clock.now_ns() - start
        assert observation is not None, self._observer.waiting_for
        return took


@contextmanager
def sized(*, joints: int = 24, rows: int = 50, cameras: int = 0) -> Iterator[Sized]:
    """A session of this size, with its loop executing."""
    group = JointGroup(
        name="arm", lower_deg=(-180,) * joints, upper_deg=(180,) * joints, initial_deg=(5,) * joints
    )
    chosen = config(
        (group,),
        action_chunk_size=rows,
        ticks_per_row=50,  # so that the shortest chunk outlasts a round
        camera_names=tuple(f"camera{i}" for i in range(cameras)),
        mono_image_resize=IMAGE,
    )
    with session_for(f"growth{next(_count)}", chosen) as session:
        yield Sized(session, executing(chosen, session), Observer(chosen, session), cameras)


def by_turns(calls: dict[Key, Call], rounds: int) -> dict[Key, list[float]]:
    """p50 and p99 of each, us: those of the first, times by how much the others differ from it.

    A virtual core's speed changes by half within seconds, so that they are compared within rounds.
    """
    took = np.array([[call(TICKS) for call in calls.values()] for _ in range(rounds)]) / 1e3
    quantiles = np.percentile(took, (50, 99), axis=2)  # (2, rounds, calls)
    first = quantiles[:, :, :1]
    costs = np.median(quantiles / first, axis=1) * np.median(first, axis=1)
    return dict(zip(calls, costs.T.tolist(), strict=True))


def test_how_cost_grows(long: bool, benchmark) -> None:  # type: ignore[no-untyped-def]
    found: dict[Key, list[float]] = {}

    def measure() -> None:
        with ExitStack() as made, as_control():
            sessions = {
                (of, n): made.enter_context(sized(**{of: n})) for of in SIZES for n in SIZES[of]
            }
            calls: dict[Key, Call] = {
                (of, what, n): getattr(session, what)
                for (of, n), session in sessions.items()
                for what in COSTS
                if what != "observations" or of == "cameras"
            }
            found.update(by_turns(calls, rounds=120 if long else 10))

    benchmark.pedantic(measure, rounds=1)
    grown: dict[str, dict[str, dict[int, list[float]]]] = {}
    for (of, what, n), us in found.items():
        grown.setdefault(of, {}).setdefault(what, {})[n] = us
    keep("growth", **grown)
    for of, costs in grown.items():
        for what, sizes in costs.items():
            p50s = ", ".join(f"{size}: {p50:.1f}" for size, (p50, _) in sizes.items())
            report(f"{what}, p50 in us over {of}", p50s)
