"""One run: configuration, supervisor, children in their order, status line, summary."""

from __future__ import annotations

import os
import time

import msgspec

from rt import cores
from rt.config import Config
from rt.config.load import load_config
from rt.errors import ConfigError, RtError
from rt.infer.policy_config import RobotKind, declared_dims, load_policy_config
from rt.launcher.board import LOOK_S, Board
from rt.launcher.children import Child
from rt.launcher.console import Console, progress, realtime_report
from rt.launcher.interrupt import Interrupt
from rt.launcher.options import parse
from rt.launcher.supervisor import Supervisor
from rt.robots.fake.presence import find_fake
from rt.robots.robot import choose_backend, find_backend, resolve
from rt.session import holder

FAKED = ("dds", "ros2")  # what a fake robot speaks


def launch(argv: list[str] | None, interrupt: Interrupt) -> int:
    """The whole command, and its exit code. Raises RtError for a mistake, told in a sentence."""
    arguments = parse(argv)
    console = Console()
    try:
        loaded = load_config(arguments)
        config = with_fake(loaded.config)
        check_run(config)
        for note in loaded.notes:
            console.say(f"note: {note}")
        run_session(divide_cores(config), console, interrupt)
    except RtError:
        console.end()
        raise
    return 0


def with_fake(config: Config) -> Config:
    """`config`, and the fake robot that answers in the real one's place, if one lives.

    One that speaks on the network is treated as the real robot that it may stand beside. A driver
    of somebody's own may reach the real robot whatever we say of loopback.
    """
    name = ""  # whatever --set said
    if config.run.io in FAKED and not config.robot.driver:
        fake = find_fake(config.robot.name, config.topics.robot_id, config.run.domain)
        name = fake.session if fake is not None and fake.loopback else ""
    return msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, fake=name))


def check_run(config: Config) -> None:
    """What can be refused before anything starts: contradictory flags, a policy that does not fit
    the robot or was not trained for it, a backend that is not there.

    What is trained for the simulated robot only must not move a real one: that is said before what
    the backend lacks on this machine.
    """
    path, io = config.run.policy_yaml_path, config.run.io
    if config.run.require_rt and config.run.algorithm == "sequential":
        raise ConfigError(
            "--require_rt: sequential mode runs the policy in the control process, which cannot be "
            "real-time: leave out one of --require_rt and --inference_algorithm sequential"
        )
    choose_backend(config)
    policy = load_policy_config(path)
    trained_for = policy.trained_for or ("sim", "real")
    where: RobotKind = "real" if config.run.real else "sim"
    if where not in trained_for and not config.run.fake:
        raise ConfigError(
            f"{path}: trained_for: expected a policy that was trained for a {where} robot, which "
            f"--io {io} means, got one trained for {', '.join(trained_for)}: take another with -P"
            + (_or_a_fake(config) if io in FAKED and not config.robot.driver else "")
        )
    expected = {
        "action_dim": config.params.action_dim,
        "action_horizon": config.params.action_chunk_size,
        "state_dim": config.params.proprio_state_dim,
        "proprio_history_size": config.params.proprio_history_size,
        "num_img_obs": config.params.num_img_obs,
    }
    for component, dims in declared_dims(policy).items():
        for name, value in dims.items():
            if value != expected[name]:
                raise ConfigError(
                    f"{policy.component_paths[component]}: params.{name}: the model has {value}, "
                    f"but {config.sources.params} asks for {expected[name]}: make them agree, or "
                    "take another policy with -P"
                )
    backend = find_backend(config)
    if backend.check:
        resolve(backend.check, config)(config)


def _or_a_fake(config: Config) -> str:
    return (
        f", or start the fake robot first (none runs with robot_id {config.topics.robot_id} in DDS "
        f"domain {config.run.domain}): python -m rt.robots.fake --robot {config.robot.name}"
    )


def divide_cores(config: Config) -> Config:
    """`config` with the cores divided between control and the others.

    This process leaves control's core now, and every child is born off it; control alone moves
    back when it enters real time.
    """
    division = cores.divide(config.robot.realtime.cpu)
    os.sched_setaffinity(0, division.others)
    run = msgspec.structs.replace(
        config.run, control_core=division.control, other_cores=division.others
    )
    return msgspec.structs.replace(config, run=run)


def run_session(config: Config, console: Console, interrupt: Interrupt) -> None:
    """Create the session, run it, remove it."""
    with Supervisor(config, console.say) as supervisor:
        interrupt.force = supervisor.force
        if supervisor.cleaned:
            console.say(f"removed what a dead session left: {', '.join(supervisor.cleaned)}")
        console.say(f"session {config.run.session}: robot {config.robot.name}, io {config.run.io}")
        if config.run.fake:
            pid = holder(config.run.fake, "supervisor")
            cameras = ", its simulated cameras" if config.params.camera_names else ""
            console.say(
                f"robot {config.topics.robot_id} is the fake one (pid {pid}): DDS on loopback "
                f"only{cameras}"
            )
        for helper in supervisor.helpers:
            helper.spawn()
        for helper in supervisor.helpers:
            if not wait_until(helper, "running", supervisor, console, interrupt):
                console.say("stopped before it ran")
                return
            if helper.detail:
                console.say(f"{helper.name}: {helper.detail}")
        if config.run.algorithm == "sequential":
            # Imported only here: it brings the policy, and torch, into this process.
            from rt.launcher.sequential import run_sequential

            run_sequential(supervisor, console, interrupt)
            return
        inference, control = supervisor.children["inference"], supervisor.children["control"]
        inference.spawn()
        if not wait_until(inference, "ready", supervisor, console, interrupt):
            console.say("stopped before it ran")
            return
        console.say(f"policy {config.run.policy_yaml_path}: {inference.detail}")
        control.spawn()
        if not wait_until(control, "running", supervisor, console, interrupt):
            return
        for line in realtime_report(control.detail.encode()):
            console.say(line)
        follow(supervisor, console, interrupt)


def wait_until(
    child: Child, state: str, supervisor: Supervisor, console: Console, interrupt: Interrupt
) -> bool:
    """Show a child's progress until it says that it is in `state`. False: interrupted."""
    while child.state != state:
        supervisor.watch()
        if interrupt or (child.exit_code == 0):
            return False
        line = progress(child.name, child.state, child.progress, child.detail)
        console.show(line, time.monotonic(), every_s=0.5)
        time.sleep(LOOK_S)
    return True


def follow(supervisor: Supervisor, console: Console, interrupt: Interrupt) -> None:
    """Watch and show a running session until it ends; then stop it and sum it up."""
    board = Board(supervisor, console)
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
