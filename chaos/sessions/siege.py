"""Signals to the processes of a driven robot, and what has to be true after each."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from driven import CHILDREN, Driven
from judge import Judge
from launched import processes, segments, until
from revival import Revival
from tick_log import holds

from rt.launcher.children import RESTARTS
from rt.launcher.supervisor import CONTROL_SILENT_S
from rt.records import Phase

KILL, TERM, STOP = signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP
SUPERVISOR, FAKE = "supervisor", "fake"
MARGIN_S = 0.4  # of how long control may be stopped before its supervisor has noticed
GONE_S = 1.5  # a robot that is away for so long counts as lost, and may come back anywhere


class Blow(NamedTuple):
    """One signal to one process."""

    victim: str
    number: signal.Signals
    stop_s: float  # from SIGSTOP to SIGCONT

    @property
    def ends_the_session(self) -> bool | None:
        """None: either may happen."""
        if self.number is not STOP:
            return self.victim in (SUPERVISOR, "control")
        if self.victim != "control" or self.stop_s < CONTROL_SILENT_S - MARGIN_S:
            return False
        return True if self.stop_s > CONTROL_SILENT_S + MARGIN_S else None

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Of a launch that it ends."""
        if (self.victim, self.number) == (SUPERVISOR, KILL):
            return (-KILL,)
        return (0,) if self.number is TERM else (1,)


def blows(dice: random.Random) -> Iterator[Blow]:
    """Every signal to every process, shuffled, again and again."""
    kinds = list(itertools.product((SUPERVISOR, FAKE, *CHILDREN), (KILL, TERM, STOP)))
    while True:
        dice.shuffle(kinds)
        for victim, number in kinds:
            yield Blow(victim, number, dice.uniform(0.05, 3.0))


class Siege:
    """Strikes, and looks whether what was promised happens."""

    def __init__(self, driven: Driven, dice: random.Random) -> None:
        self.struck: Counter[str] = Counter()  # by signal
        self.revivals: list[Revival] = []  # of an inference that was killed
        self.starts_s: list[float] = []  # from a launch to its first executed row
        self._driven = driven
        self._dice = dice
        self._judges: list[Judge] = []  # of every launch
        self._restarts: Counter[str] = Counter()  # in this one

    def begin(self) -> None:
        """Launch, and have it work."""
        start = time.monotonic()
        self._driven.launch()
        self._judges.append(self._driven.judge)
        self._driven.until_at_work()
        self.starts_s.append(time.monotonic() - start)
        self._restarts.clear()

    def strike(self, blow: Blow, *, patient: bool) -> None:
        """`patient`: wait until all is well again, else leave it to the next blow."""
        driven = self._driven
        if self._restarts[blow.victim] >= RESTARTS - 1:  # one more and it would be given up
            driven.run.signal(TERM)
            self._finish(Blow(SUPERVISOR, TERM, 0))
            self.begin()
        pid = driven.until(f"{blow.victim} to live", lambda: driven.pid(blow.victim))
        self.struck[blow.number.name] += 1
        revival = Revival(driven)
        if blow.victim == FAKE and blow.number is not STOP:
            self._replace_fake(blow)
        else:
            os.kill(pid, blow.number)
        if blow.number is STOP:
            stopped = time.monotonic()
            time.sleep(blow.stop_s)
            if driven.pid(blow.victim) == pid:
                os.kill(pid, signal.SIGCONT)
            blow = blow._replace(stop_s=time.monotonic() - stopped)  # on a busy machine longer
        if self._has_ended(blow):
            self._finish(blow)
            self.begin()
            return
        self._restarts[blow.victim] += blow.number is not STOP
        if patient:
            self._recover(blow, pid, revival)
        else:
            time.sleep(self._dice.uniform(0.0, 1.5))
        driven.log.look()

    def _replace_fake(self, blow: Blow) -> None:
        self._driven.kill_fake(blow.number)
        time.sleep(GONE_S)
        self._driven.fake.start()

    def _has_ended(self, blow: Blow) -> bool:
        ends, process = blow.ends_the_session, self._driven.run.process
        if ends is None:
            log = self._driven.log
            ticks = len(log.ticks)
            until(
                "control to go on, or the session to end",
                lambda: process.poll() is not None or len(log.ticks) > ticks + 40,
            )
            ends = process.poll() is not None
        elif not ends:
            assert process.poll() is None, self._driven.run.output
        return ends

    def _recover(self, blow: Blow, pid: int, revival: Revival) -> None:
        """Wait until all work again, and the victim has shown that it does."""
        driven, killed = self._driven, blow.number is not STOP
        ring: Any = (driven.frames | {"inference": driven.chunks}).get(blow.victim)
        seen = ring.head if ring else 0
        if killed and blow.victim == "inference":
            revival.follow(pid)
            self.revivals.append(revival)

        def well() -> bool:
            if killed and driven.pid(blow.victim) == pid:
                return False
            return driven.at_work and (not ring or ring.head > seen)

        driven.until(f"all to be well after {blow}", well)

    def _finish(self, blow: Blow) -> None:
        """The session is to end: in what way, and that nothing of it goes on."""
        driven = self._driven
        code = driven.run.wait()
        assert code in blow.exit_codes, f"{blow}: exit code {code}\n{driven.run.output}"
        until("its processes to end", lambda: not processes(driven.session))
        assert "Traceback" not in driven.run.output, driven.run.output
        if blow.victim == SUPERVISOR or blow.number is TERM:
            assert driven.log.last["phase"] == Phase.STOPPED, (
                f"{blow}: control did not hold at its end"
            )
        left = segments(driven.session)
        killed = (blow.victim, blow.number) == (SUPERVISOR, KILL)
        assert bool(left) == killed, f"{blow}: {left} is left"
        assert not segments(driven.robot), f"{blow}: the robot's lock is left"
        driven.fake.settle()
        commands = driven.fake.report.commands
        driven.fake.settle()
        assert driven.fake.report.commands == commands, f"{blow}: commands after the end"

    @property
    def ticks(self) -> int:
        """All that were read."""
        return sum(len(judge.log.ticks) for judge in self._judges)

    @property
    def holds(self) -> Counter[str]:
        """Ticks that held, by reason."""
        return sum((holds(judge.log.ticks) for judge in self._judges), Counter())

    def wrong(self) -> list[str]:
        """What contradicts the documents."""
        ticks = [words for judge in self._judges for words in judge.wrong]
        return ticks + self._driven.strays()
