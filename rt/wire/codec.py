"""Maps of arrays, numbers and text as msgpack, byte for byte as openpi packs them.

Guarantees:
  - Whatever bytes come, `decode` gives plain Python values and arrays of numbers, or a WireError,
    in a time that is bounded by their number: no other class is built, no code is run, and nothing
    is allocated by a length that the bytes only claim.
  - An array of single bytes (an image) is a view of the message, read-only; no other is, because
    the numbers of a message lie where they happen to lie.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Raw
from numpy.typing import NDArray

from rt.errors import RtError

MAX_VALUES, MAX_DEPTH, MAX_LIST, MAX_AXES = 256, 4, 1024, 8  # of a message
# Little-endian numbers: no objects, text or records, and nothing that torch would not take.
DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bhilBHILefd"}

_Scalar = bool | int | float | str | None
_Axis = Annotated[int, Meta(ge=0, le=1 << 31)]
_read_keys = msgspec.msgpack.Decoder(Annotated[dict[str, Raw], Meta(max_length=MAX_VALUES)]).decode
_read_marks = msgspec.msgpack.Decoder(Annotated[dict[bytes, Raw], Meta(max_length=4)]).decode
_read_plain = msgspec.msgpack.Decoder(
    _Scalar | Annotated[list[_Scalar], Meta(max_length=MAX_LIST)]
).decode
_read_number = msgspec.msgpack.Decoder(bool | int | float).decode
_read_bytes = msgspec.msgpack.Decoder(memoryview).decode  # without a copy
_read_name = msgspec.msgpack.Decoder(Annotated[str, Meta(max_length=8)]).decode
_read_shape = msgspec.msgpack.Decoder(Annotated[list[_Axis], Meta(max_length=MAX_AXES)]).decode
_ERRORS = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


class WireError(RtError):
    """A message is not what it should be: one sentence, fit to be sent back."""


def encode(values: dict[str, Any]) -> bytes:
    """Maps, lists, numbers, text, None, and arrays and scalars of numpy's numbers.

    Raises TypeError for anything else.
    """
    return _encode(values)


def decode(message: bytes | memoryview) -> dict[str, Any]:
    """The map that `message` is. Raises WireError."""
    try:
        return _Reader().map(Raw(message), "")
    except _ERRORS as error:
        raise WireError(f"expected a msgpack map with keys of text: {error}") from None


def converted(value: Any, kind: Any) -> Any:
    """What was decoded as a msgspec Struct, or another type. Raises WireError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise WireError(f"{error}") from None


def kind_of(value: Any) -> str:
    """Its dtype or its type, for a sentence."""
    return str(getattr(value, "dtype", type(value).__name__))


class _Reader:
    """Reads level by level, so that each length is judged before what it measures is built."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def map(self, raw: Raw, place: str) -> dict[str, Any]:
        if place.count("/") >= MAX_DEPTH:
            raise WireError(f"{place}: expected maps at most {MAX_DEPTH} deep")
        inner = _read_keys(raw)
        self._left -= len(inner)
        if self._left < 0:
            raise WireError(f"expected a message of at most {MAX_VALUES} values, got more")
        return {key: self._value(value, f"{place}/{key}") for key, value in inner.items()}

    def _value(self, raw: Raw, place: str) -> Any:
        try:
            if not _is_map(raw):
                return _read_plain(raw)
            try:
                marks = _read_marks(raw)
            except msgspec.ValidationError:  # its keys are no bytes: a map like any other
                return self.map(raw, place)
            if b"__ndarray__" in marks:
                return _array(marks)
            if b"__npgeneric__" in marks:
                return _dtype(marks).type(_read_number(marks[b"data"]))
        except KeyError as error:
            raise WireError(f"{place}: expected an array's {error}, got none") from None
        except (*_ERRORS, TypeError) as error:
            raise WireError(f"{place}: {error}") from None
        if marks:
            raise WireError(f"{place}: expected an array, or a map with keys of text")
        return {}


def _is_map(raw: Raw) -> bool:
    """By its first byte: fixmap, map 16 or map 32."""
    first = memoryview(raw)[0]
    return 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)


def _dtype(marks: dict[bytes, Raw]) -> np.dtype[Any]:
    name = _read_name(marks[b"dtype"])
    if name not in DTYPES:
        raise ValueError(f"expected numbers, one of {', '.join(DTYPES)}, got dtype {name!r}")
    return DTYPES[name]


def _array(marks: dict[bytes, Raw]) -> NDArray[Any]:
    dtype, shape = _dtype(marks), _read_shape(marks[b"shape"])
    data = _read_bytes(marks[b"data"])
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(data):
        raise ValueError(
            f"expected {expected} bytes for {dtype} of shape {tuple(shape)}, got {len(data)}"
        )
    array = np.frombuffer(data, dtype).reshape(shape)
    return array if dtype.itemsize == 1 else array.copy()


def _pack(value: object) -> object:
    if isinstance(value, np.generic) and value.dtype.str in DTYPES:
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    if isinstance(value, np.ndarray) and value.dtype.str in DTYPES:
        data = np.ascontiguousarray(value).data.cast("B") if value.size else b""
        dtype, shape = value.dtype.str, value.shape
        return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}
    raise TypeError(f"{kind_of(value)} cannot be sent")


_encode = msgspec.msgpack.Encoder(enc_hook=_pack).encode
