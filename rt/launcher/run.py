"""One run: configuration, supervisor, children in their order, status line, summary."""

from __future__ import annotations

import time

from rt.config import Config
from rt.config.load import load_config
from rt.errors import RtError
from rt.launcher.board import LOOK_S, Board
from rt.launcher.children import Child
from rt.launcher.console import progress, realtime_report
from rt.launcher.interrupt import Interrupt
from rt.launcher.log import LOGS, Log
from rt.launcher.options import parse
from rt.launcher.prepare import check_run, divide_cores, with_fake
from rt.launcher.supervisor import Supervisor
from rt.metrics.serve import Address, serving
from rt.session import holder


def launch(argv: list[str] | None, interrupt: Interrupt) -> int:
    """The whole command, and its exit code. Raises RtError for a mistake, told in a sentence."""
    arguments = parse(argv)
    log: Log = LOGS[arguments.log_format]()
    try:
        loaded = load_config(arguments)
        config = with_fake(loaded.config)
        check_run(config)
        for note in loaded.notes:
            log.say(f"note: {note}")
        metrics = Address(arguments.metrics_host, arguments.metrics_port)
        run_session(divide_cores(config), log, interrupt, metrics)
    except RtError as error:
        log.fail(error)
        raise
    return 0


def run_session(config: Config, log: Log, interrupt: Interrupt, metrics: Address) -> None:
    """Create the session, run it, remove it."""
    with (
        Supervisor(config, log.tell) as supervisor,
        serving(metrics, supervisor.session, config, supervisor.restarts) as url,
    ):
        interrupt.force = supervisor.force
        if supervisor.cleaned:
            log.say(f"removed what a dead session left: {', '.join(supervisor.cleaned)}")
        log.say(f"session {config.run.session}: robot {config.robot.name}, io {config.run.io}")
        if url:
            log.say(f"metrics: {url}")
        if config.run.fake:
            pid = holder(config.run.fake, "supervisor")
            cameras = ", its simulated cameras" if config.params.camera_names else ""
            log.say(
                f"robot {config.topics.robot_id} is the fake one (pid {pid}): DDS on loopback "
                f"only{cameras}"
            )
        if config.run.record:
            supervisor.children["record"].spawn()  # first, so that it misses nothing
        for helper in supervisor.helpers:
            helper.spawn()
        for helper in supervisor.helpers:
            if not wait_until(helper, "running", supervisor, log, interrupt):
                log.say("stopped before it ran")
                return
            if helper.detail:
                log.say(f"{helper.name}: {helper.detail}")
        if config.run.algorithm == "sequential":
            # Imported only here: it brings the policy, and torch, into this process.
            from rt.launcher.sequential import run_sequential

            run_sequential(supervisor, log, interrupt)
            return
        inference, control = supervisor.children["inference"], supervisor.children["control"]
        inference.spawn()
        if not wait_until(inference, "ready", supervisor, log, interrupt):
            log.say("stopped before it ran")
            return
        log.say(f"policy {config.run.policy_yaml_path}: {inference.detail}")
        control.spawn()
        if not wait_until(control, "running", supervisor, log, interrupt):
            return
        for line in realtime_report(control.detail.encode()):
            log.say(line)
        follow(supervisor, log, interrupt)


def wait_until(
    child: Child, state: str, supervisor: Supervisor, log: Log, interrupt: Interrupt
) -> bool:
    """Show a child's progress until it says that it is in `state`. False: interrupted."""
    while child.state != state:
        supervisor.watch()
        if interrupt or (child.exit_code == 0):
            return False
        line = progress(child.name, child.state, child.progress, child.detail)
        log.show(line, every_s=0.5)
        time.sleep(LOOK_S)
    return True


def follow(supervisor: Supervisor, log: Log, interrupt: Interrupt) -> None:
    """Watch and show a running session until it ends; then stop it and sum it up."""
    board = Board(supervisor, log)
    control = supervisor.children["control"]
    try:
        while not interrupt and not board.over and control.exit_code is None:
            supervisor.watch()
            board.look()
            time.sleep(LOOK_S)
        supervisor.watch()  # control may have died of a fault: that ends the run with its words
    finally:
        supervisor.stop()
        board.close()
