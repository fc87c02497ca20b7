"""Whatever bytes come to a policy server, or from one: a request, a reply, or one sentence; and the
robot beside it is served."""

from __future__ import annotations

import base64
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from broken_files import ODD, changed_bytes, odd_values
from fuzzing import LONGEST, fuzz, outcome
from hypothesis import strategies as st
from reliability import tell
from scale import Scale
from serving import OFFER, PATIENCE_S, A, Batching, H, Serving, answered, upgrade
from websockets.sync.client import ClientConnection

from rt.wire.codec import decode, encode
from rt.wire.images import NO_CAMERAS, read_images, to_jpeg, with_images
from rt.wire.offer import read_offer, write_offer
from rt.wire.openpi import openpi_observation, our_observation
from rt.wire.protocol import (
    Guidance,
    Request,
    Result,
    read_request,
    read_result,
    write_request,
    write_result,
)

LEFTOVER = np.ones((H, A), np.float32)
IMAGES = np.zeros((1, 3, 16, 16), np.uint8)
PICTURE = bytes(cv2.imencode(".jpg", IMAGES[0].transpose(1, 2, 0))[1])
INPUT_DATA = {
    "proprio": np.zeros((1, A), np.float32),
    "head": IMAGES,
    "wrist": to_jpeg(IMAGES),
    "prompt": "lift it",
    "prev_action": LEFTOVER,
    "est_delay": 1,
}
REQUEST = write_request(Request(INPUT_DATA, "rtc", 3, Guidance(), number=7, episode=1))
CAMERA_MAP = {"head": "base_0_rgb"}
OPENPI = encode(openpi_observation(INPUT_DATA, CAMERA_MAP, "state"))
RESULT = write_result(Result(LEFTOVER, number=7))
MARKS = (b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape")
SAYS_NOTHING_S = 0.05  # then it waits for more
DTYPES = ("<f4", "<f8", "|u1", "|b1", ">f8", "|O", "<U1", "f4,f4", "<M8[s]", "", "é")


def marked(draw: Callable[..., Any]) -> dict[bytes, Any]:
    """An array, or what looks like one."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, -1, 2**31, 2**63]), max_size=9))
    size = draw(st.integers(0, 64))
    marks = {
        draw(st.sampled_from(MARKS[:2])): True,
        b"data": draw(st.sampled_from([b"\0" * size, b"\xff" * size, size, [], "text", None])),
        b"dtype": draw(st.sampled_from(DTYPES)),
        b"shape": draw(st.sampled_from([shape, [size], [size // 4], (1, size // 4), size, "x"])),
    }
    for mark in draw(st.lists(st.sampled_from(MARKS), max_size=1)):
        marks.pop(mark, None)
    return marks


def unpacked(message: bytes) -> dict[str, Any]:
    """A message's values, arrays as the maps that they are on the wire."""
    values: dict[str, Any] = msgspec.msgpack.decode(message)
    return values


@st.composite
def hostile(draw: Callable[..., Any], message: bytes) -> bytes:
    """Random bytes; or `message` with bytes or values changed, or arrays that are none."""
    how = draw(st.sampled_from(["random", "bytes", "values", "values", "arrays", "arrays"]))
    if how == "random":
        return bytes(draw(st.binary(max_size=200)))
    if how == "bytes":
        return bytes(draw(changed_bytes(message)))
    values = unpacked(message)
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from([*values, "more", "", "image", "rt"]))
        values[key] = marked(draw) if how == "arrays" else draw(odd_values())
    with suppress(msgspec.MsgspecError, UnicodeEncodeError, OverflowError, TypeError):
        return msgspec.msgpack.encode(values)
    return b""


def looked_at(message: bytes) -> None:
    """As the engine does before it computes."""
    request = read_request(decode(message), OFFER)
    seen = with_images(request.input_data)
    images = [value for key, value in seen.items() if key not in NO_CAMERAS]
    assert request.input_data["proprio"].dtype == np.float32
    assert np.isfinite(request.input_data["proprio"]).all()
    assert all(image.dtype == np.uint8 and image.shape[1] == 3 for image in images)


def openpis(message: bytes) -> None:
    our_observation(decode(message), CAMERA_MAP, "state")


@pytest.mark.parametrize(
    ("what", "message", "read"),
    [
        ("a request", REQUEST, looked_at),
        ("an openpi client's request", OPENPI, openpis),
        ("a server's offer", write_offer(OFFER), read_offer),
        ("a server's reply", RESULT, lambda message: read_result(message, (H, A))),
    ],
)
def test_any_bytes_are_a_message_or_one_sentence(
    what: str, message: bytes, read: Callable[[bytes], object], scale: Scale, dice: random.Random
) -> None:
    assert outcome(lambda: read(message)) == "accepted"

    def attempt(data: bytes) -> str:
        return outcome(lambda: read(data))

    tell("fuzz", f"bytes as {what}", str(fuzz(scale, dice, hostile(message), attempt, share=5)))


def test_any_bytes_are_a_picture_or_one_sentence(scale: Scale, dice: random.Random) -> None:
    ends = st.lists(st.sampled_from([0, 1, 300, len(PICTURE), 2**31, 2**63 - 1]), max_size=3)
    cases = st.tuples(
        st.one_of(changed_bytes(PICTURE), st.binary(max_size=60).map(lambda b: b"\xff\xd8" + b)),
        st.one_of(st.none(), ends),
    )

    def attempt(case: tuple[bytes, list[int] | None]) -> str:
        data, ends = case
        value = {
            "jpeg": np.frombuffer(data, np.uint8),
            "ends": np.array([len(data)] if ends is None else ends, np.int64),
        }
        return outcome(lambda: read_images(decode(encode({"head": value}))), "head")

    tell("fuzz", "bytes as a JPEG picture", str(fuzz(scale, dice, cases, attempt, share=5)))


@pytest.fixture
def served() -> Iterator[tuple[Serving, ClientConnection]]:
    """A server, and a robot that it serves."""
    with Serving(Batching()) as serving, serving.connect() as robot:
        robot.recv()
        yield serving, robot
        answered(robot)


def test_any_request_to_a_server_is_answered_and_the_robot_beside_it_served(
    served: tuple[Serving, ClientConnection], scale: Scale, dice: random.Random
) -> None:
    serving, robot = served

    def attempt(data: bytes | str) -> str:
        client.send(data)
        answered(robot)
        reply = client.recv(timeout=PATIENCE_S)
        if isinstance(reply, bytes):
            assert read_result(reply, (H, A))
            return "computed"
        assert reply.isprintable()
        assert 0 < len(reply) <= LONGEST + 50
        return "refused"

    texts = st.sampled_from([odd for odd in ODD if isinstance(odd, str) and odd.isprintable()])
    with serving.connect() as client:
        client.recv()
        tried = fuzz(scale, dice, st.one_of(hostile(REQUEST), texts), attempt)
        answered(client)
    tell("fuzz", "requests to a policy server", str(tried))


def frames(head: bytes, payload: bytes, mask: bytes) -> bytes:
    """What stands where a client's frame is expected."""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + masked


def test_any_bytes_to_the_port_cost_their_sender_alone(
    served: tuple[Serving, ClientConnection], scale: Scale, dice: random.Random
) -> None:
    serving, robot = served
    key = base64.b64encode(bytes(16)).decode()
    heads = st.sampled_from(
        [
            b"\x82\x85",
            b"\x02\x85",
            b"\x82\x05",
            b"\x8f\x85",
            b"\xf2\x85",
            b"\x88\x82",
            b"\x89\xfd",
            struct.pack("!BBQ", 0x82, 0xFF, 2**63),
            struct.pack("!BBQ", 0x82, 0xFF, 2**30),
            struct.pack("!BBH", 0x82, 0xFE, 5),
        ]
    )
    framed = st.builds(frames, heads, st.binary(max_size=40), st.binary(min_size=4, max_size=4))
    cases = st.one_of(
        st.binary(max_size=100),
        changed_bytes(upgrade(key)),
        framed.map(lambda data: upgrade(key) + data),
    )

    def attempt(data: bytes) -> str:
        with socket.create_connection(("127.0.0.1", serving.port), PATIENCE_S) as raw:
            received = b""
            with suppress(ConnectionError):
                raw.sendall(data)
                if select.select([raw], [], [], SAYS_NOTHING_S)[0]:
                    received += raw.recv(65536)
                raw.shutdown(socket.SHUT_WR)
            answered(robot)
            with suppress(ConnectionError):
                while more := raw.recv(65536):
                    received += more
        assert b"Traceback" not in received
        return received[9:12].decode() if received.startswith(b"HTTP/1.1 ") else "hung up on"

    tried = fuzz(scale, dice, cases, attempt)
    tell("fuzz", "bytes to a policy server's port", str(tried))
