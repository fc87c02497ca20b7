"""`options` of IGRIS_C's robot.yaml, checked before anything starts: a wrong index moves a leg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rt.config import Config
from rt.config.files import convert
from rt.config.words import nearest
from rt.errors import ConfigError

MOTORS = 31
BODY = 15  # legs and waist are the indices below in every map that was ever published

Mode = Literal["ms", "pjs"]
Gain = Annotated[float, Meta(ge=0, le=10_000)]
Gains = tuple[Gain, ...]


class PublishedMap(NamedTuple):
    """Where the SDK says that joints are: joint group → indices, and in which space."""

    mode: Mode
    groups: dict[str, tuple[int, ...]]


PUBLISHED = {
    # The low-level example and the GUI client: neck, and no hands.
    "joint_space": PublishedMap(
        "pjs",
        {
            "left_arm": tuple(range(15, 22)),
            "right_arm": tuple(range(22, 29)),
            "neck": (29, 30),
        },
    ),
    # types.hpp: hands, and no neck. The GUI client's own names for motors say otherwise.
    "motor_space": PublishedMap(
        "ms",
        {
            "left_arm": tuple(range(15, 22)),
            "left_hand": (22,),
            "right_arm": tuple(range(23, 30)),
            "right_hand": (30,),
        },
    ),
}
STATUS_BITS = {  # MotorError of the SDK's types.hpp
    "0": "initialisation failed",
    "1": "no packet received",
    "2": "stalled",
    "3": "low voltage",
    "4": "over voltage",
    "5": "over current",
    "6": "power overrun",
    "7": "calibration not written",
    "8": "too fast",
    "9": "component too hot",
    "10": "motor too hot",
    "11": "encoder calibration",
    "12": "encoder data",
    "13": "brake voltage too high",
    "14": "driver stage",
}


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is commanded, where, and how stiffly."""

    kinematic_mode: Mode  # what an index means: a motor, or a joint
    index_map: Literal["joint_space", "motor_space"] | dict[str, tuple[int, ...]]
    kp: Gains  # Nm/rad by index: the commanded joints' and the latched ones'
    kd: Gains  # Nm s/rad
    # Bit → what it means. Any bit that is set is a fault, named here or not.
    status_bits: dict[str, str] = msgspec.field(default_factory=lambda: STATUS_BITS)


class Wiring(NamedTuple):
    """Options that fit the robot's joint groups."""

    mode: Mode
    indices: NDArray[np.intp]  # (A,) of each joint of the state and action vectors
    names: tuple[str, ...]  # (31,) by index, for people: "left_arm[3]", or "latched"
    kp: NDArray[np.float32]  # (31,)
    kd: NDArray[np.float32]  # (31,)
    status_bits: dict[int, str]


def check(config: Config) -> None:
    """Raise ConfigError for options that do not fit."""
    wire(config)


def wire(config: Config) -> Wiring:
    """The options of `config.robot`, as arrays. Raises ConfigError, naming the key."""
    place = f"{config.sources.robot}: options"
    options = convert(config.robot.options, Options, place)
    known = [group.name for group in config.robot.joint_groups]
    index_map = _index_map(options, known, place)
    names = ["latched"] * MOTORS
    taken: dict[int, str] = {}
    for group in config.robot.joint_groups:
        at = f"{place}.index_map.{group.name}"
        if group.name not in index_map:
            raise ConfigError(
                f"{at}: expected the indices of this joint group, got none: the map has "
                f"{', '.join(index_map)}"
            )
        _check_group(at, index_map[group.name], group.joints, taken)
        taken |= dict.fromkeys(index_map[group.name], group.name)
    for name, index in zip(config.joint_names, taken, strict=True):
        names[index] = name
    return Wiring(
        mode=options.kinematic_mode,
        indices=np.fromiter(taken, np.intp),
        names=tuple(names),
        kp=_gains(options.kp, f"{place}.kp"),
        kd=_gains(options.kd, f"{place}.kd"),
        status_bits=_bits(options.status_bits, f"{place}.status_bits"),
    )


def _index_map(options: Options, known: Sequence[str], place: str) -> dict[str, tuple[int, ...]]:
    given = options.index_map
    if not isinstance(given, str):
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"{place}.index_map: unknown joint group {name!r}: {nearest(name, known)}"
                )
        return given
    published = PUBLISHED[given]
    if published.mode != options.kinematic_mode:
        raise ConfigError(
            f"{place}.index_map: {given!r} is a map of kinematic_mode {published.mode!r}, got "
            f"kinematic_mode {options.kinematic_mode!r}: make them agree"
        )
    return published.groups


def _check_group(at: str, indices: Sequence[int], joints: int, taken: dict[int, str]) -> None:
    if len(indices) != joints:
        raise ConfigError(
            f"{at}: expected {joints} indices, one for each of the group's joints, got "
            f"{len(indices)}"
        )
    for i, index in enumerate(indices):
        if not 0 <= index < MOTORS:
            raise ConfigError(f"{at}[{i}]: expected an index from {BODY} to 30, got {index}")
        if index < BODY:
            raise ConfigError(
                f"{at}[{i}]: expected an index from {BODY} to 30, got {index}, which is a leg's "
                "or the waist's: those are held, never commanded"
            )
        if index in taken or index in indices[:i]:
            raise ConfigError(
                f"{at}[{i}]: expected each index once, got {index} again, which "
                f"{taken.get(index, 'this group')} has"
            )


def _gains(given: Gains, place: str) -> NDArray[np.float32]:
    if len(given) != MOTORS:
        raise ConfigError(
            f"{place}: expected {MOTORS} numbers, one for each index, got {len(given)}"
        )
    return np.array(given, np.float32)


def _bits(given: dict[str, str], place: str) -> dict[int, str]:
    valid = [str(bit) for bit in range(32)]
    for key in given:
        if key not in valid:
            raise ConfigError(
                f"{place}: expected bits from 0 to 31, got {key!r}: {nearest(key, valid)}"
            )
    return {int(bit): name for bit, name in given.items()}
