"""What becomes of a configuration before anything starts: who answers to it, whether it may run at
all, and on which cores."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from rt import cores
from rt.config import Config
from rt.errors import ConfigError
from rt.infer.fit import check_yaml
from rt.record.output import check_folder
from rt.robots.fake.presence import find_fake
from rt.robots.robot import choose_backend, find_backend, resolve


def with_fake(config: Config) -> Config:
    """`config`, and the fake robot that answers in the real one's place, if one lives.

    One that speaks on the network is treated as the real robot that it may stand beside. A driver
    of somebody's own may reach the real robot whatever we say of loopback.
    """
    name = ""  # whatever --set said
    if config.may_be_faked:
        fake = find_fake(config.robot.name, config.topics.robot_id, config.run.domain)
        name = fake.session if fake is not None and fake.loopback else ""
    return msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, fake=name))


def check_run(config: Config) -> None:
    """What can be refused before anything starts: contradictory flags, a policy that does not fit
    the robot or was not trained for it, a backend that is not there, a folder that nothing can be
    recorded to.

    What is trained for the simulated robot only must not move a real one: that is said before what
    the backend lacks on this machine.
    """
    if config.run.require_rt and config.run.algorithm == "sequential":
        raise ConfigError(
            "--require_rt: sequential mode runs the policy in the control process, which cannot be "
            "real-time: leave out one of --require_rt and --inference_algorithm sequential"
        )
    choose_backend(config)
    check_yaml(config)
    backend = find_backend(config)
    if backend.check:
        resolve(backend.check, config)(config)
    if config.run.record:
        check_folder(Path(config.run.record))


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
