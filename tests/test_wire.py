"""What goes over the wire: openpi's messages to the byte, and one sentence for everything else."""

from __future__ import annotations

import math
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from rt.wire.codec import (
    DTYPES,
    MAX_AXES,
    MAX_DEPTH,
    MAX_LIST,
    MAX_VALUES,
    WireError,
    decode,
    encode,
)
from rt.wire.images import MAX_PIXEL_BYTES, read_images, to_jpeg
from rt.wire.offer import Offer, Scaled, Statistics, read_offer, write_offer
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

H, A, HISTORY = 4, 2, 3
OFFER = Offer(
    version="0.1.0",
    policy="policy.yaml",
    policy_type="flow",
    modes=("naive", "rtc"),
    action_context_size=2,
    dims={"action_dim": A, "action_horizon": H, "state_dim": A, "proprio_history_size": HISTORY},
    statistics=Statistics(state=Scaled(offset=[0.1, 1e-9], scale=[1 / 3, 2.0], shift=-1.0)),
    trained_for=("sim",),
)
RANDOM = np.random.default_rng(0)


def observation(**more: Any) -> dict[str, Any]:
    return {
        "proprio": RANDOM.standard_normal((HISTORY, A)).astype(np.float32),
        "head": RANDOM.integers(0, 256, (1, 3, 4, 6), np.uint8),
        "prompt": "lift it",
        **more,
    }


def guided(**more: Any) -> dict[str, Any]:
    leftover = RANDOM.standard_normal((H, A)).astype(np.float32)
    return observation(prev_action=leftover, est_delay=1, **more)


def same(a: Any, b: Any) -> bool:
    """Keys, values, dtypes and bits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


def packed(value: Any) -> bytes:
    """msgpack as openpi writes it, by hand."""
    if isinstance(value, np.ndarray):
        value = {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": list(value.shape),
        }
    elif isinstance(value, np.generic):
        value = {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)])
        return head + b"".join(packed(k) + packed(v) for k, v in value.items())
    return msgspec.msgpack.encode(value)


EVERYTHING: dict[str, Any] = {
    "nothing": None,
    "yes": True,
    "count": -3,
    "share": 0.1,
    "words": "ünïcode",
    "list": [1, 2.5, "x", None],
    "scalar": np.float32(0.5),
    "state": np.arange(6, dtype=np.float64).reshape(2, 3),
    "images": {"left": np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3), "right": {}},
    "slice": np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2],
    "empty": np.zeros((0, 3), np.float32),
}


def test_it_is_what_openpi_packs_to_the_byte() -> None:
    assert encode(EVERYTHING) == packed(EVERYTHING)


def test_what_comes_is_what_was_sent() -> None:
    assert same(decode(encode(EVERYTHING)), EVERYTHING)
    for dtype in DTYPES.values():
        assert same(decode(encode({"x": np.ones(3, dtype)})), {"x": np.ones(3, dtype)})


def test_an_image_is_not_copied_and_numbers_are_aligned() -> None:
    message = b"".join([encode({"head": np.zeros(9, np.uint8), "x": np.zeros(3)})])
    values = decode(message)
    assert not values["head"].flags.owndata
    assert not values["head"].flags.writeable
    assert values["x"].flags.aligned
    assert values["x"].flags.owndata


@pytest.mark.parametrize(
    "value",
    [np.array(["x"]), np.array([None]), np.zeros(2, ">f8"), np.zeros(2, complex), object()],
    ids=["text", "objects", "big-endian", "complex", "an object"],
)
def test_what_is_no_number_is_not_sent(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        encode({"x": value})


def ndarray(**changes: Any) -> bytes:
    """A message with one array, with other marks."""
    marks = {"__ndarray__": True, "data": b"\0" * 8, "dtype": "<f4", "shape": [2]} | changes
    told = {key.encode(): value for key, value in marks.items() if value is not ...}
    return msgspec.msgpack.encode({"x": told})


def nested(depth: int) -> dict[str, Any]:
    return {"in": nested(depth - 1)} if depth else {}


BOMB = b"\x81\xa1x\xdd" + (5_000_000).to_bytes(4, "big") + b"\x90" * 5_000_000

HOSTILE = {
    "nothing at all": b"",
    "a list": b"\x90",
    "text": b"hello",
    "cut off": encode(EVERYTHING)[:-1],
    "bytes behind it": encode({}) + b"\0",
    "no utf-8": b"\x81\xa1x\xa1\xff",
    "a map of a thousand million": b"\xdf\x3f\xff\xff\xff",
    "a list of a thousand million": b"\x81\xa1x\xdd\x3f\xff\xff\xff",
    "bytes of a thousand million": b"\x81\xa1x\xc6\x3f\xff\xff\xff",
    "five million lists": BOMB,
    "an extension": b"\x81\xa1x\xd4\x00\x00",
    "a time": b"\x81\xa1x\xd6\xff\0\0\0\0",
    "bare bytes": msgspec.msgpack.encode({"x": b"raw"}),
    "keys of numbers": msgspec.msgpack.encode({1: 2}),
    "inner keys of numbers": msgspec.msgpack.encode({"x": {1: 2}}),
    "too deep": encode(nested(MAX_DEPTH + 1)),
    "a million deep": b"\x81\xa1x" * 1_000_000 + b"\x80",
    "too many values": encode({f"k{i}": i for i in range(MAX_VALUES + 1)}),
    "too many in all": encode({f"k{i}": {f"{j}": j for j in range(20)} for i in range(20)}),
    "a long list": encode({"x": [0] * (MAX_LIST + 1)}),
    "too few bytes": ndarray(data=b"\0" * 7),
    "too many bytes": ndarray(data=b"\0" * 9),
    "a shape that overflows": ndarray(shape=[2**31] * MAX_AXES),
    "nothing of a huge shape": ndarray(shape=[0, *[2**31] * (MAX_AXES - 1)], data=b""),
    "too many axes": ndarray(shape=[1] * MAX_AXES + [2]),
    "a negative axis": ndarray(shape=[-2]),
    "an axis that is no number": ndarray(shape=["2"]),
    "objects": ndarray(dtype="|O"),
    "records": ndarray(dtype="f4,f4"),
    "text in an array": ndarray(dtype="<U2"),
    "big-endian": ndarray(dtype=">f4"),
    "no dtype": ndarray(dtype=...),
    "no shape": ndarray(shape=...),
    "no data": ndarray(data=...),
    "data that is text": ndarray(data="12345678"),
    "other marks": msgspec.msgpack.encode({"x": {b"__object__": True}}),
    "a scalar that is none": msgspec.msgpack.encode(
        {"x": {b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}}
    ),
    "a scalar that does not fit": msgspec.msgpack.encode(
        {"x": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}
    ),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_anything_else_is_one_sentence(message: bytes) -> None:
    with pytest.raises(WireError) as told:
        decode(message)
    assert str(told.value).isprintable()
    assert len(str(told.value)) > 10


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("too few bytes", r"^/x: expected 8 bytes for float32 of shape \(2,\), got 7"),
        ("too many bytes", r"^/x: expected 8 bytes for float32 of shape \(2,\), got 9"),
        ("objects", r"^/x: expected numbers, one of .*<f4.*, got dtype '\|O'"),
        ("big-endian", "^/x: expected numbers, one of .*, got dtype '>f4'"),
        ("no shape", "^/x: expected an array's b'shape', got none"),
    ],
)
def test_what_is_wrong_with_an_array_is_named(what: str, words: str) -> None:
    with pytest.raises(WireError, match=words):
        decode(HOSTILE[what])


def test_what_may_be_asked_for_may_be_asked_for() -> None:
    assert decode(encode(nested(MAX_DEPTH)))
    assert len(decode(encode({f"k{i}": i for i in range(MAX_VALUES)}))) == MAX_VALUES
    assert len(decode(encode({"x": [0] * MAX_LIST}))["x"]) == MAX_LIST
    assert decode(encode({"x": np.zeros([1] * MAX_AXES)}))["x"].ndim == MAX_AXES


def test_an_offer_comes_as_it_was_made() -> None:
    assert read_offer(write_offer(OFFER)) == OFFER


def test_a_stock_servers_greeting_is_no_offer() -> None:
    for greeting in ({}, {"reset_pose": [0.0, 1.0]}):
        assert read_offer(encode(greeting)) is None


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"hello", "expected a msgpack map"),
        ("no room", "the policy server says: no room"),
        (encode({"rt": {"protocol": 2, "version": "9.1"}}), r"rt 9.1\) speaks protocol 2.*robot 1"),
        (encode({"rt": {"protocol": 2.5}}), "speaks protocol 2.5"),
        (encode({"rt": {"protocol": np.ones(2)}}), "speaks protocol"),
        (encode({"rt": [1]}), "expected a map in 'rt'"),
        (encode({"rt": {"protocol": 1, "policy": "p"}}), "policy_type"),
    ],
)
def test_an_offer_that_cannot_be_understood_is_one_sentence(
    greeting: bytes | str, words: str
) -> None:
    with pytest.raises(WireError, match=words):
        read_offer(greeting)


@pytest.mark.parametrize(
    "request_",
    [
        Request(observation()),
        Request(observation(), number=7, episode=2),
        Request(observation(action_context=np.ones((2, A), np.float32)), number=0),
        Request(guided(), "rtc", 3, Guidance(schedule="linear", max_guidance_weight=0.1), 8, 2),
    ],
)
def test_a_request_comes_as_it_was_made(request_: Request) -> None:
    read = read_request(decode(write_request(request_)), OFFER)
    assert same(read._asdict(), request_._asdict())


def test_a_stock_clients_observation_is_a_request() -> None:
    offer = msgspec.structs.replace(OFFER, dims={})
    sent = {"proprio": np.zeros(A), "head": np.zeros((4, 6, 3), np.uint8), "prompt": "x"}
    read = read_request(decode(encode(sent)), offer)
    assert read.mode == "predict"
    assert read.number is None
    assert read.input_data["proprio"].shape == (1, A)
    assert read.input_data["proprio"].dtype == np.float32


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another protocol": ({"protocol": 2}, "robot speaks protocol 2, this policy server .* 1"),
    "a protocol that is no number": ({"protocol": np.ones(2)}, "robot speaks protocol"),
    "no state": ({"proprio": ...}, "expected 'proprio'"),
    "a state of text": ({"proprio": "0 0"}, "proprio: expected numbers .* got str"),
    "a state of a list": ({"proprio": [0.0, 0.0]}, "proprio: expected numbers .* got list"),
    "a state of truths": ({"proprio": np.ones((HISTORY, A), bool)}, "proprio: .* got bool"),
    "another robot's state": (
        {"proprio": np.zeros((HISTORY, A + 1))},
        r"proprio: expected shape \(3, 2\), got \(3, 3\)",
    ),
    "a state that is not finite": ({"proprio": np.full((HISTORY, A), np.inf)}, "finite"),
    "a state beyond float32": ({"proprio": np.full((HISTORY, A), 1e300)}, "finite"),
    "an unknown mode": ({"mode": "magic"}, "mode"),
    "a mode that is not served": (
        {"mode": "prefix"},
        "mode: expected 'rtc', or no mode and no leftover, got 'prefix'",
    ),
    "no leftover": ({"prev_action": ...}, "needs prev_action and est_delay"),
    "no delay": ({"est_delay": ...}, "needs prev_action and est_delay"),
    "no mode": ({"mode": ...}, "a leftover needs a mode"),
    "a leftover of another shape": (
        {"prev_action": np.zeros((H, A + 1))},
        r"prev_action: expected shape \(4, 2\)",
    ),
    "a delay in the past": ({"est_delay": -1}, "est_delay"),
    "rows that are none": ({"executed": 1.5}, "executed"),
    "a schedule of its own": ({"guidance": {"schedule": "mine"}}, "schedule"),
    "an unknown option": ({"guidance": {"beta": 5.0}}, "beta"),
    "a weight below 0": ({"guidance": {"max_guidance_weight": -1.0}}, "max_guidance_weight"),
    "a prompt that is none": ({"prompt": 7}, "prompt"),
    "a page of a prompt": ({"prompt": "x" * 5000}, "prompt"),
    "a context of another length": (
        {"action_context": np.zeros((3, A))},
        r"action_context: expected shape \(2, 2\)",
    ),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_request_is_said(changes: dict[str, Any], words: str) -> None:
    values = decode(write_request(Request(guided(), "rtc", 3)))
    assert read_request(decode(encode(values)), OFFER).mode == "rtc", "it was right before"
    values = {key: value for key, value in (values | changes).items() if value is not ...}
    with pytest.raises(WireError, match=words):
        read_request(decode(encode(values)), OFFER)


CHUNK = RANDOM.standard_normal((H, A)).astype(np.float32)


def test_a_result_comes_as_it_was_made() -> None:
    result = Result(CHUNK, 1.0, 0.25, 0.5, 3.0, 4, 7)
    read = read_result(write_result(result), (H, A))
    assert same(read._asdict(), result._asdict())
    assert decode(write_result(result))["policy_timing"]["infer_ms"] == 1.0, "openpi's own key"


def test_a_stock_servers_result_is_one() -> None:
    reply = {"actions": CHUNK.astype(np.float64), "state": np.zeros(A)}
    reply |= {"policy_timing": {"infer_ms": 4.0}, "server_timing": {"infer_ms": 5.0, "x": 1}}
    read = read_result(encode(reply), (None, A))
    assert same(read.actions, CHUNK)
    assert (read.infer_ms, read.queue_ms, read.number) == (5.0, 0.0, None)
    assert read_result(encode({"actions": CHUNK}), (H, A)).infer_ms == 0.0


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("no such camera", "^the policy server says: no such camera$"),
        (encode({"state": CHUNK}), "expected 'actions' of the policy server, got state"),
        (encode({"actions": CHUNK[:2]}), r"actions: expected shape \(4, 2\), got \(2, 2\)"),
        (encode({"actions": CHUNK * np.float32(np.nan)}), "actions: expected finite numbers"),
        (encode({"actions": CHUNK, "number": "7"}), "number|Expected"),
        (encode({"actions": CHUNK, "server_timing": 3}), "Expected"),
        (b"", "expected a msgpack map"),
    ],
)
def test_what_is_wrong_with_a_reply_is_said(reply: bytes | str, words: str) -> None:
    with pytest.raises(WireError, match=words):
        read_result(reply, (H, A))


def smooth(count: int = 2, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    """(count, 3, height, width), channels apart."""
    y, x = np.mgrid[0:height, 0:width]
    images = [[x * 3, y * 4, np.full_like(x, 40 * i)] for i in range(count)]
    return np.array(images).astype(np.uint8)


def test_jpeg_keeps_the_images_but_for_what_jpeg_loses() -> None:
    images = smooth()
    sent = decode(encode({"head": to_jpeg(images)}))
    read = read_images(sent)["head"]
    assert read.shape == images.shape
    assert np.abs(read.astype(int) - images).mean() < 2, "colours in their places"
    assert len(encode(sent)) < images.nbytes / 3


def test_one_image_stands_for_a_history_of_one() -> None:
    chw, grey = smooth(1)[0], np.zeros((3, 5, 3), np.uint8)
    values = {"chw": chw, "hwc": chw.transpose(1, 2, 0), "many": chw[None], "odd": grey}
    read = read_images(values)
    assert all(np.array_equal(read[key], chw[None]) for key in ("chw", "hwc", "many"))
    assert read["odd"].shape == (1, 3, 5, 3)


def jpeg_of(picture: bytes, ends: Any = None) -> dict[str, Any]:
    data = np.frombuffer(picture, np.uint8)
    return {"jpeg": data, "ends": np.array([len(data)]) if ends is None else ends}


def a_picture(height: int = 48, width: int = 64) -> bytes:
    return bytes(cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1])


def claiming(height: int, width: int) -> bytes:
    """A small picture whose header says otherwise."""
    picture = bytearray(a_picture())
    at = picture.index(b"\xff\xc0")
    picture[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(picture)


def misleading() -> bytes:
    """To a decoder of gigabytes; of 48 x 64 to whoever takes for a length what is none."""
    picture = b"\xff\xd8\xff\x01" + claiming(65535, 65535)[2:]
    read_as_length = int.from_bytes(picture[4:6], "big")
    at = 4 + read_as_length
    small = a_picture()
    return picture.ljust(at, b"\0") + small[small.index(b"\xff\xc0") :]


EMPTY_SCAN = bytes.fromhex("ffda 0008 01 0100 003f00")  # of one component; as long to decode as any
PICTURES: dict[str, Any] = {
    "floats": np.zeros((3, 4, 6), np.float32),
    "two axes": np.zeros((4, 6), np.uint8),
    "four channels": np.zeros((1, 4, 4, 6), np.uint8),
    "nothing": np.zeros((0, 3, 4, 6), np.uint8),
    "text": "picture",
    "a map": {},
    "no ends": {"jpeg": np.zeros(4, np.uint8)},
    "ends that are none": jpeg_of(a_picture(), np.array([0.5])),
    "no end at all": jpeg_of(a_picture(), np.zeros(0, np.int64)),
    "neither bytes nor ends": jpeg_of(b"", np.zeros(0, np.int64)),
    "an end too early": jpeg_of(a_picture(), np.array([100])),
    "an end beyond": jpeg_of(a_picture(), np.array([10**9])),
    "ends that fall": jpeg_of(a_picture(), np.array([600, 300, len(a_picture())])),
    "a png": jpeg_of(bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1])),
    "a picture of gigabytes": jpeg_of(claiming(65535, 65535)),
    "a picture of no size": jpeg_of(claiming(0, 64)),
    "half a picture's head": jpeg_of(a_picture()[:30]),
    "a head alone": jpeg_of(a_picture()[: a_picture().index(b"\xff\xda")]),
    "a size behind a marker without a length": jpeg_of(misleading()),
    "more scans than a picture has": jpeg_of(a_picture()[:-2] + 40 * EMPTY_SCAN + b"\xff\xd9"),
    "two sizes": {
        "jpeg": np.frombuffer(a_picture() + a_picture(24), np.uint8),
        "ends": np.array([len(a_picture()), len(a_picture()) + len(a_picture(24))]),
    },
}


@pytest.mark.parametrize("value", PICTURES.values(), ids=PICTURES)
def test_what_is_no_picture_is_one_sentence(value: Any) -> None:
    with pytest.raises(WireError, match=r"^head: expected "):
        read_images({"head": value})


def test_a_picture_is_judged_by_what_it_claims_before_it_is_decoded() -> None:
    with pytest.raises(WireError, match=r"head: expected images of at most .* 65535x65535"):
        read_images({"head": PICTURES["a picture of gigabytes"]})
    with pytest.raises(WireError, match="expected pictures of one size"):
        read_images({"head": PICTURES["two sizes"]})
    with pytest.raises(WireError, match="does not tell its size"):
        read_images({"head": PICTURES["a size behind a marker without a length"]})


def test_a_requests_pictures_are_bounded_together() -> None:
    side = math.isqrt(MAX_PIXEL_BYTES // 3 // 2) + 8
    large = jpeg_of(a_picture(side, side))
    assert read_images({"head": large})["head"].shape == (1, 3, side, side)
    with pytest.raises(WireError, match="wrist: expected images of at most"):
        read_images({"head": large, "wrist": large})


@pytest.mark.parametrize(
    ("camera_map", "state_key"),
    [
        ({"top": "images.cam_high", "hand": "observation/wrist"}, "robot.state"),
        ({"top": "base_0_rgb", "hand": "left_wrist_0_rgb"}, "state"),
    ],
)
def test_openpis_keys_and_back(camera_map: dict[str, str], state_key: str) -> None:
    seen = observation(top=smooth(1), hand=smooth(1, 24))
    sent = decode(encode(openpi_observation(seen, camera_map, state_key)))
    ours = our_observation(sent, camera_map, state_key)
    assert ours.keys() == {"proprio", "top", "hand", "prompt"}
    images = read_images({camera: ours[camera] for camera in camera_map})
    assert all(np.array_equal(images[camera], seen[camera]) for camera in camera_map)
    assert np.array_equal(ours["proprio"], seen["proprio"][-1])


def test_a_masked_camera_of_openpis_is_absent_and_a_missing_key_is_named() -> None:
    seen = openpi_observation(observation(top=smooth(1)), {"top": "base_0_rgb"}, "state")
    both = {"top": "base_0_rgb", "hand": "left_wrist_0_rgb"}
    assert our_observation(seen, both, "state").keys() == {"proprio", "top", "prompt"}
    for missing in ({"top": "images.cam_low"}, {"top": "prompt.cam_low"}):
        with pytest.raises(WireError, match=r"expected '.*cam_low'"):
            our_observation(seen, missing, "state")


@pytest.mark.parametrize(
    "odd", [{"image": None}, {"image": "base_0_rgb"}, {"image_mask": {"base_0_rgb": np.ones(2)}}]
)
def test_odd_images_of_openpis_are_one_sentence(odd: dict[str, Any]) -> None:
    seen = openpi_observation(observation(top=smooth(1)), {"top": "base_0_rgb"}, "state") | odd
    with pytest.raises(WireError, match="image"):
        our_observation(seen, {"top": "base_0_rgb"}, "state")
