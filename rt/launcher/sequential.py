"""Sequential mode: the same control tick and the same pipeline, in this one process.

For a debugger: a breakpoint anywhere stops everything. No SCHED_FIFO, no memory lock, and the
robot stands still while the policy plans.
"""

from __future__ import annotations

import time

from rt.child import Status
from rt.control.process import hold_at_last, open_loop, started
from rt.control.ticker import Ticker
from rt.infer.process import open_pipeline
from rt.launcher.board import LOOK_S, Board
from rt.launcher.console import progress
from rt.launcher.interrupt import Interrupt, Interrupted
from rt.launcher.log import Log
from rt.launcher.supervisor import Supervisor
from rt.records import Phase
from rt.session import Lock, Session, robot_lock


class ShownStatus(Status):
    """A status that is shown as well: there is no other process to watch it."""

    def __init__(self, session: Session, name: str, log: Log) -> None:
        super().__init__(session, name)
        self.shown = True
        self._log = log

    def write(
        self, state: str, *, progress: float = 1.0, detail: str | bytes = "", beat: bool = True
    ) -> None:
        super().write(state, progress=progress, detail=detail, beat=beat)
        if self.shown:
            self._show(state, progress, detail)

    def _show(self, state: str, share: float, detail: str | bytes) -> None:
        words = detail.decode() if isinstance(detail, bytes) else detail
        self._log.show(progress(self.name, state, share, words), every_s=0.0)


def run_sequential(supervisor: Supervisor, log: Log, interrupt: Interrupt) -> None:
    """Tick, and plan between two ticks whenever a plan is due, until told to stop."""
    session, config = supervisor.session, supervisor.config
    with (
        ShownStatus(session, "inference", log) as inference,
        Status(session, "control") as control,
        Lock(session.name, "control"),
        robot_lock(config),
    ):
        try:
            with interrupt.raising():
                pipeline = open_pipeline(config, session, inference)
        except Interrupted:
            return
        inference.shown = False  # from here on the status line tells it
        loop = open_loop(config, session)
        with started(loop.robot):
            log.say("real time: not asked for in sequential mode")
            control.write("running", beat=False)
            board = Board(supervisor, log)
            ticker = Ticker(config.period_ns)
            planned, looked = False, 0.0
            try:
                while not interrupt and not board.over and loop.episode.phase is not Phase.STOPPED:
                    tick = ticker.wait(lambda: bool(interrupt))
                    if tick is None:
                        break
                    loop.tick(tick, skipped=ticker.skipped, planned=planned)
                    with interrupt.raising():
                        planned = pipeline.step(loop.record)
                    if time.monotonic() - looked > LOOK_S:
                        looked = time.monotonic()
                        pipeline.tell(inference)
                        supervisor.watch()
                        board.look()
            except Interrupted:
                pass
            finally:
                hold_at_last(loop, ticker)
                board.close()
