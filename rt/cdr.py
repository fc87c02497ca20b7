"""XCDR1, the bytes of a message: for the few that every tick reads and writes, and for recordings,
which need no DDS.

cyclonedds's own, which interprets a type field by field, takes two to three times as long. A number
lies at a multiple of its size, counted behind the four bytes that tell the byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

HEAD = 4
LITTLE_ENDIAN = b"\0\1\0\0"
NUMBER = {order + code: struct.Struct(order + code) for order in "<>" for code in "iI"}


class Reader:
    """One message, from byte `at` on. Every method raises ValueError or struct.error where the
    bytes end."""

    def __init__(self, data: bytes, at: int = HEAD) -> None:
        if len(data) < HEAD or data[0] != 0 or data[1] > 1:
            raise ValueError(f"expected XCDR1, got the head {data[:HEAD].hex()!r}")
        self._data = data
        self._order = "<" if data[1] else ">"
        self._at = at

    def number(self, code: str) -> int:
        """A number of four bytes: `i` or `I` of the module struct."""
        start = self._at + -self._at % 4
        self._at = start + 4
        value: int = NUMBER[self._order + code].unpack_from(self._data, start)[0]
        return value

    def text(self) -> str:
        """A string, which ends with a zero byte that counts. Numbers follow every string in our
        messages, so one that is cut short is noticed there."""
        length = self.number("I")
        start, self._at = self._at, self._at + length
        return self._data[start : self._at - 1].decode()

    def octets(self) -> bytes:
        """An array of bytes, with its length before it."""
        length = self.number("I")
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise ValueError(f"expected {length} bytes, got {len(self._data) - start}")
        return self._data[start : self._at]

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self.number("I"))]

    def numbers(self, code: str) -> list[float]:
        """An array of `f` or `d` with its length before it."""
        count = self.number("I")
        if not count:
            return []  # and no gap before it
        size = struct.calcsize(code)
        start = self._at + (HEAD - self._at) % size
        self._at = start + size * count
        return list(struct.unpack_from(f"{self._order}{count}{code}", self._data, start))


class Writer:
    """One message, from its beginning."""

    def __init__(self) -> None:
        self.data = bytearray(LITTLE_ENDIAN)

    def number(self, code: str, value: int) -> None:
        self._pack(code, 4, (value,))

    def text(self, value: str) -> None:
        encoded = value.encode()
        self.number("I", len(encoded) + 1)
        self.data += encoded + b"\0"

    def octets(self, value: bytes) -> None:
        """An array of bytes, with its length before it."""
        self.number("I", len(value))
        self.data += value

    def texts(self, values: Sequence[str]) -> None:
        self.number("I", len(values))
        for value in values:
            self.text(value)

    def numbers(self, code: str, values: Sequence[float]) -> None:
        self.number("I", len(values))
        if len(values):
            self._pack(code, struct.calcsize(code), values)

    def _pack(self, code: str, size: int, values: Sequence[float]) -> None:
        self.data += bytes((HEAD - len(self.data)) % size)
        self.data += struct.pack(f"<{len(values)}{code}", *values)
