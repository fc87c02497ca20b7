"""What a recording's channels carry: types of ROS 2 where one fits, else types made from a record's
own dtype, so that nothing of it is lost. All are XCDR1, little-endian.

A message's own times are the wall clock's; those within a record stay CLOCK_MONOTONIC.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt.arrays import Vector
from rt.cdr import HEAD, Reader, Writer
from rt.clock import NS_PER_S
from rt.config import Config
from rt.events import Event
from rt.records import chunk_dtype, tick_dtype

STATE = "/observation/state"
ACTION = "/action/state"
IMAGES = "/observation/images/"  # and the camera's name
TICK = "/rt/tick"
CHUNK = "/rt/chunk"
EVENT = "/rt/event"
RECORDER = "/rt/recorder"


class RosType(NamedTuple):
    """A name, and the definition as ros2msg."""

    name: str
    definition: str


_RULE = "=" * 80 + "\n"
_TIME = f"{_RULE}MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
_HEADER = f"{_RULE}MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n{_TIME}"
JOINT_STATE = RosType(
    "sensor_msgs/msg/JointState",
    "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\n"
    f"float64[] effort\n{_HEADER}",
)
COMPRESSED_IMAGE = RosType(
    "sensor_msgs/msg/CompressedImage",
    f"std_msgs/Header header\nstring format\nuint8[] data\n{_HEADER}",
)
LOG = RosType(
    "rcl_interfaces/msg/Log",
    "builtin_interfaces/Time stamp\nuint8 level\nstring name\nstring msg\nstring file\n"
    f"string function\nuint32 line\n{_TIME}",
)


def _stamped(t_ns: int) -> Writer:
    writer = Writer()
    writer.number("i", t_ns // NS_PER_S)
    writer.number("I", t_ns % NS_PER_S)
    return writer


class JointStates:
    """JointStates of always the same joints: all but stamp and positions is made once."""

    def __init__(self, names: Sequence[str]) -> None:
        writer = _stamped(0)
        writer.text("")
        writer.texts(names)
        writer.numbers("d", [0.0] * len(names))
        head = bytes(writer.data)
        stamp_at, stamp_end = HEAD, HEAD + 8
        self._before = head[:stamp_at]
        self._between = head[stamp_end : len(head) - 8 * len(names)]
        self._after = struct.pack("<II", 0, 0)  # no velocities, no efforts

    def encode(self, t_ns: int, position: Vector) -> bytes:
        """One message. `position` (A,) float64, rad; t_ns: of the wall clock."""
        stamp = struct.pack("<iI", t_ns // NS_PER_S, t_ns % NS_PER_S)
        return self._before + stamp + self._between + position.tobytes() + self._after


def encode_image(t_ns: int, camera: str, jpeg: bytes) -> bytes:
    """A CompressedImage. t_ns: when it was captured, of the wall clock."""
    writer = _stamped(t_ns)
    writer.text(camera)
    writer.text("jpeg")
    writer.octets(jpeg)
    return bytes(writer.data)


def decode_image(message: bytes) -> bytes:
    """The JPEG of a CompressedImage."""
    reader = Reader(message, HEAD + 8)
    reader.text()  # frame_id
    reader.text()  # format
    return reader.octets()


_INFO, _WARN = 20, 30  # rcl_interfaces/msg/Log's levels
_GOOD_NEWS = ("resumed", "episode")
_LINES = 2**32


def encode_event(t_ns: int, event: Event) -> bytes:
    """A Log, as which ROS's tools and Foxglove show it: `name` is the kind of event, `function` its
    reason, `line` its tick. t_ns: of the wall clock."""
    writer = _stamped(t_ns)
    writer.data.append(_INFO if event.kind in _GOOD_NEWS else _WARN)
    for text in (event.kind, event.words, "", event.reason):
        writer.text(text)
    writer.number("I", event.tick % _LINES)
    return bytes(writer.data)


def decode_event(t_ns: int, message: bytes) -> Event:
    """What `encode_event` encoded. t_ns: CLOCK_MONOTONIC."""
    reader = Reader(message, HEAD + 9)  # behind stamp and level
    kind, words, _, reason = (reader.text() for _ in range(4))
    line = reader.number("I")
    return Event(t_ns, -1 if line == _LINES - 1 else line, kind, words, reason)


_ROS_NAMES = {"i4": "int32", "i8": "int64", "f4": "float32", "f8": "float64"}


class RecordType:
    """Records of one dtype as messages of a ROS type of the same fields, bit for bit.

    numpy's aligned layout of numbers is XCDR1's, so they are copied as they are; strings follow at
    the end. What cannot be decoded of a string, as a character that its field cut, is left out.
    """

    def __init__(self, name: str, dtype: np.dtype[np.void]) -> None:
        names = dtype.names or ()
        self._dtype = dtype
        self._texts = [n for n in names if dtype[n].kind == "S"]
        numbers = [n for n in names if dtype[n].kind != "S"]
        self._numbers = np.dtype([(n, dtype[n].base, dtype[n].shape) for n in numbers], align=True)
        fields: Mapping[str, Any] = self._numbers.fields or {}
        self._end = max(offset + of.itemsize for of, offset, *_ in fields.values())  # no padding
        lines = [f"{self._ros_name(n)} {n}\n" for n in numbers] + [
            f"string {n}\n" for n in self._texts
        ]
        self.type = RosType(name, "".join(lines))
        self.shapes = {n: str(list(dtype[n].shape)) for n in numbers if len(dtype[n].shape) > 1}
        """Of the fields that ROS knows as flat arrays only, row after row."""

    def _ros_name(self, field: str) -> str:
        dtype = self._numbers[field]
        count = f"[{math.prod(dtype.shape)}]" if dtype.shape else ""
        return _ROS_NAMES[dtype.base.str[1:]] + count

    def encode(self, records: NDArray[Any]) -> list[bytes]:
        """A message of each record; records (n,)."""
        numbers = np.zeros(len(records), self._numbers)
        for name in self._numbers.names or ():
            numbers[name] = records[name]
        messages = []
        for number, record in zip(numbers, records, strict=True):
            writer = Writer()
            writer.data += number.tobytes()[: self._end]
            for name in self._texts:
                writer.text(record[name].decode(errors="ignore"))
            messages.append(bytes(writer.data))
        return messages

    def decode(self, messages: Sequence[bytes]) -> NDArray[Any]:
        """The records, (n,). Raises ValueError or struct.error if one is cut short."""
        numbers = np.zeros(len(messages), self._numbers)
        records = np.zeros(len(messages), self._dtype)
        room = numbers.view(np.uint8).reshape(len(messages), self._numbers.itemsize)
        for i, message in enumerate(messages):
            room[i, : self._end] = np.frombuffer(message, np.uint8, self._end, HEAD)
            reader = Reader(message, HEAD + self._end)
            for name in self._texts:
                records[name][i] = reader.text().encode()
        for name in self._numbers.names or ():
            records[name] = numbers[name]
        return records


def tick_type(config: Config) -> RecordType:
    """The tick record as a message."""
    params = config.params
    dtype = tick_dtype(params.proprio_state_dim, params.action_dim)
    return RecordType("rt_msgs/msg/Tick", dtype)


def chunk_type(config: Config) -> RecordType:
    """The chunk record as a message."""
    params = config.params
    dtype = chunk_dtype(params.action_chunk_size, params.action_dim)
    return RecordType("rt_msgs/msg/Chunk", dtype)
