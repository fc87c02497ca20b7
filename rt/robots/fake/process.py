"""The fake robot's loop: listen, move, publish, in real time.

Guarantees:
  - Every command that arrives is seen, in its order: the report's largest step is the true one.
  - Nothing is left in /dev/shm when it ends in order.
Assumptions:
  - One thread of Python's; DDS brings its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import msgspec
from cyclonedds.domain import DomainParticipant

from rt import clock
from rt.clock import Ticks
from rt.config import Config
from rt.errors import SessionLiveError
from rt.records import text
from rt.robots.dds import DdsBus
from rt.robots.fake.faults import Faults, parse_fault
from rt.robots.fake.presence import FAULT, PRESENCE, Presence, fake_name
from rt.robots.fake.report import Report
from rt.robots.fake.stage import Played, Role, Stage
from rt.session import Lock, Session, holder, ring_table
from rt.shm import Ring

MIN_STEP_HZ = 200.0  # how often it listens and moves: finer than any policy row
FRAME_S = 0.035  # as a 30 fps camera would give
LOOK_S = 0.2  # between two updates of the presence
LONGEST_STEP_S = 0.05  # after a stall the robot goes on from where it was


class Every:
    """True once in every period; periods that passed unseen are skipped."""

    def __init__(self, period_s: float, now_ns: int) -> None:
        self._ticks = Ticks(now_ns, round(1e9 * period_s))
        self._last = -1

    def __call__(self, now_ns: int) -> bool:
        tick = self._ticks.at(now_ns)
        is_new, self._last = tick != self._last, tick
        return is_new


class Play:
    """A fake robot that lives."""

    def __init__(
        self, presence: Presence, session: Session, played: Played, faults: Faults, bus: DdsBus
    ) -> None:
        self.presence = presence
        self._bus = bus
        self._played, self._faults = played, faults
        self._presences: Ring = session.writer("fake")
        self._record = self._presences.buffer()
        self._mailbox: Ring = session.reader("fault")
        self._order = self._mailbox.buffer()
        self._orders = 0
        self._tell()

    def run(self, rate_hz: float, look: Callable[[], bool]) -> None:
        """Play, publishing states at `rate_hz`, until `look`, called now and then, says False."""
        step_s = 1 / (rate_hz * math.ceil(MIN_STEP_HZ / rate_hz))
        now = last = clock.now_ns()
        steps = Ticks(now, round(1e9 * step_s))
        publish_due, frame_due, look_due = (Every(s, now) for s in (1 / rate_hz, FRAME_S, LOOK_S))
        while True:
            clock.sleep_until(steps.due(steps.next_after(now)))
            now = clock.now_ns()
            self._hear(now)
            self._bus.look()
            self._played.listen()
            self._played.step(min((now - last) / 1e9, LONGEST_STEP_S))
            last = now
            if publish_due(now):
                self._played.publish()
            if frame_due(now):
                self._played.paint(now)
            if look_due(now):
                self._tell()
                if not look():
                    return

    def _hear(self, now: int) -> None:
        """Begin with the fault that was ordered, and end those that are over."""
        self._faults.expire(now)
        if (
            self._mailbox.head != self._orders
            and self._mailbox.read_latest(self._order) is not None
        ):
            self._orders = self._mailbox.head
            self._faults.add(parse_fault(text(self._order["text"])), now)
            self._tell()

    def _tell(self) -> None:
        self.presence.report.faults = tuple(map(str, self._faults))
        self._record["json"] = msgspec.json.encode(self.presence)
        self._presences.write(self._record)

    def close(self) -> None:
        self._presences.close()
        self._mailbox.close()


@contextmanager
def staged(config: Config, role: Role, *, loopback: bool) -> Iterator[Play]:
    """A fake robot with its lock, its rings and its DDS. Nothing of it is left afterwards.

    Raises SessionLiveError when the same fake lives already.
    """
    robot, robot_id, domain = config.robot.name, config.topics.robot_id, config.run.domain
    name = fake_name(robot, robot_id, domain)
    report, faults, session = Report(), Faults(), Session(name)
    with ExitStack() as stack:
        stack.enter_context(_lock(name, config))
        stack.callback(session.clean)
        session.clean()
        table = {"fake": (PRESENCE, 4), "fault": (FAULT, 4)}
        if role.sees:
            frames = ring_table(config)
            table |= {ring: frames[ring] for ring in frames if ring.startswith("frame.")}
        session.create(table)
        bus = stack.enter_context(closing(DdsBus(domain, loopback=loopback)))
        # The same domain, as the bus has configured it.
        stage = Stage(config, session, bus, DomainParticipant(domain), report, faults)
        played = stack.enter_context(closing(role.played(stage)))
        presence = Presence(
            session=name,
            robot=robot,
            robot_id=robot_id,
            domain=domain,
            loopback=loopback,
            pid=os.getpid(),
            places=played.places,
            report=report,
        )
        yield stack.enter_context(closing(Play(presence, session, played, faults, bus)))


def _lock(name: str, config: Config) -> Lock:
    try:
        return Lock(name, "supervisor")
    except SessionLiveError:
        raise SessionLiveError(
            f"a fake {config.robot.name} with robot_id {config.topics.robot_id!r} already runs in "
            f"DDS domain {config.run.domain} (pid {holder(name, 'supervisor')}): stop it, or take "
            "another --robot_id or --domain"
        ) from None
