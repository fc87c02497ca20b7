"""Messages are on the wire as ROS has them: rosbags, which knows ROS's own definitions, agrees."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from cyclonedds.idl import IdlStruct
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from rt.robots.bus import MESSAGE_TYPES
from rt.robots.dds.messages import (
    IDL_TYPES,
    Float32MultiArray,
    Header,
    JointState,
    MultiArrayDimension,
    MultiArrayLayout,
    Time,
)

ROS = get_typestore(Stores.ROS2_HUMBLE)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
doubles = st.lists(st.floats(), max_size=13)
floats = st.lists(st.floats(width=32), max_size=13)
uint32s = st.integers(0, 2**32 - 1)
times = st.builds(Time, st.integers(-(2**31), 2**31 - 1), uint32s)
joint_states = st.builds(
    JointState, st.builds(Header, times, texts), st.lists(texts, max_size=7), *[doubles] * 3
)
layouts = st.builds(
    MultiArrayLayout,
    st.lists(st.builds(MultiArrayDimension, texts, uint32s, uint32s), max_size=3),
    uint32s,
)
arrays = st.builds(Float32MultiArray, layouts, floats)
messages = st.one_of(joint_states, arrays)


def theirs(ours: Any) -> Any:
    """The same message as rosbags's own class."""
    if isinstance(ours, list):
        numbers = all(isinstance(item, float) for item in ours)
        return np.array(ours) if numbers else [theirs(item) for item in ours]
    if not hasattr(ours, "__idl_typename__"):
        return ours
    kind = ROS.types[ros_name(ours)]
    values = {name: theirs(value) for name, value in vars(ours).items()}
    for name, value in values.items():
        if isinstance(value, np.ndarray) or value == []:
            values[name] = as_declared(ours, name, value)
    return kind(**values)


def as_declared(ours: Any, name: str, value: Any) -> Any:
    if name in ("name", "dim"):
        return value
    return np.array(value, np.float32 if name == "data" else np.float64)


def ros_name(ours: Any) -> str:
    return str(ours.__idl_typename__).replace("dds_::", "").replace("::", "/").removesuffix("_")


def as_text(message: Any) -> str:
    """Every value of a message, ours or theirs, bit for bit (a NaN equals no NaN)."""
    if hasattr(message, "__dataclass_fields__"):
        fields = [name for name in message.__dataclass_fields__ if name != "__msgtype__"]
        return str([(name, as_text(getattr(message, name))) for name in fields])
    if isinstance(message, (list, np.ndarray)):
        return str([as_text(item) for item in message])
    return repr(float(message)) if isinstance(message, (float, np.floating)) else repr(message)


@settings(deadline=None, max_examples=60)
@given(messages)
def test_what_we_write_is_what_ros_would_write(message: Any) -> None:
    expected = bytes(ROS.serialize_cdr(theirs(message), ros_name(message)))
    assert message.serialize() == expected
    # And the types that others are told are the types that are written.
    assert IdlStruct.serialize(message, use_version_2=False) == expected


@settings(deadline=None, max_examples=60)
@given(messages, st.booleans())
def test_what_ros_writes_we_read_in_either_byte_order(message: Any, little_endian: bool) -> None:
    written = ROS.serialize_cdr(theirs(message), ros_name(message), little_endian=little_endian)
    assert as_text(type(message).deserialize(bytes(written))) == as_text(message)


@settings(deadline=None, max_examples=100)
@given(messages, st.data())
def test_a_message_that_is_cut_short_is_refused(message: Any, data: st.DataObject) -> None:
    written = message.serialize()
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises((ValueError, struct.error)):
        type(message).deserialize(written[:cut])


@pytest.mark.parametrize("head", [b"\0\3\0\0", b"\0\7\0\0", b"\1\1\0\0"])
def test_another_encoding_than_xcdr1_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="expected XCDR1"):
        JointState.deserialize(head + JointState().serialize()[4:])


def test_the_whole_range_of_a_stamp_is_told_as_it_is_written() -> None:
    message = JointState(Header(Time(-(2**31), 2**32 - 1)))
    assert IdlStruct.serialize(message, use_version_2=False) == message.serialize()


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([JointState, Float32MultiArray]), st.binary(max_size=99))
def test_no_bytes_do_more_than_raise(kind: type[Any], written: bytes) -> None:
    with contextlib.suppress(ValueError, struct.error):
        kind.deserialize(b"\0\1\0\0" + written)


@pytest.mark.parametrize("msg_type", MESSAGE_TYPES)
def test_every_message_type_of_the_topics_file_is_compared(msg_type: str) -> None:
    assert ros_name(IDL_TYPES[msg_type]) == MESSAGE_TYPES[msg_type]
    assert IDL_TYPES[msg_type] in (JointState, Float32MultiArray)
