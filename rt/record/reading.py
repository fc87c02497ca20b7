"""A recording, read back: also one that ends in the middle, as far as it goes."""

from __future__ import annotations

import os
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from numpy.typing import NDArray

from rt.config import Config, decode_config
from rt.errors import ConfigError
from rt.events import Event
from rt.record import messages
from rt.record.messages import chunk_type, decode_event, decode_image, tick_type
from rt.record.origin import LAYOUT, META

KEPT = (messages.TICK, messages.CHUNK, messages.EVENT, messages.RECORDER)
MAGIC = b"\x89MCAP0\r\n"
MOST_BYTES = 2**28  # of a chunk: we end one at 1 MB, and after the message that is longer
# What mcap raises where a file is cut or damaged; ValueError: a checksum, or text that is none.
BROKEN = (McapError, struct.error, ValueError, zstandard.ZstdError, MemoryError, OverflowError)


def whole_records(path: Path, problems: list[str]) -> Iterator[McapRecord]:
    """Metadata, schemas, channels and messages in their order, as far as they are whole; what ends
    them early goes to `problems`. Raises ConfigError if it is no MCAP file, or cannot be read."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
            if magic != MAGIC:
                got = "an empty one" if not magic else f"one that begins with {magic!r}"
                raise ConfigError(f"{path}: expected a recording, an MCAP file, got {got}")
            file.seek(0)
            # A length that is nonsense must not make it ask for as much memory.
            limit = os.fstat(file.fileno()).st_size
            reader = StreamReader(
                file, emit_chunks=True, validate_crcs=True, record_size_limit=limit
            )
            try:
                for record in reader.records:
                    yield from _parts(record)
            except BROKEN:
                problems.append(
                    f"{path} ends in the middle, or is damaged: what comes before that is used; "
                    "python -m rt.replay FILE --mend OUT makes a whole file of it"
                )
    except OSError as error:
        raise ConfigError(f"{path}: expected a recording, got: {error.strerror}") from None


def _parts(record: McapRecord) -> Iterator[McapRecord]:
    """What a record of the file's own tells. A message counts only in a chunk with its checksum: an
    index of which one bit was changed is one as well."""
    if isinstance(record, Metadata):
        yield record
    elif isinstance(record, Chunk):
        if not record.uncompressed_crc:
            raise ValueError("expected a chunk with a checksum, got one without")
        # zstd believes what its data say of their size, and asks for that much memory.
        size = max(record.uncompressed_size, zstandard.frame_content_size(record.data))
        if record.compression != "zstd" or size > MOST_BYTES:
            raise ValueError(f"expected a chunk of up to {MOST_BYTES} bytes, got {size}")
        yield from breakup_chunk(record, validate_crc=True)


class Told(msgspec.Struct):
    """What is read of its recorder's figures."""

    lost: dict[str, int]


class Recording:
    """One recording, without its images in memory."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises ConfigError if it is no recording, or one of another layout."""
        self.path = path
        problems: list[str] = []
        records = whole_records(path, problems)
        self.meta = self._read_meta(records, problems)  # rt.record.origin says of what
        self._check_layout()
        self.offset_ns = int(self.meta["offset_ns"])
        """From CLOCK_MONOTONIC, which the records tell, to the wall clock, which MCAP tells."""
        self.config = self._read_config(records)
        self._topics: dict[int, str] = {}
        found = self._read(records)
        self.problem = "".join(problems)  # a sentence, if the file ends in the middle
        try:
            self._decode(found)
        except (ValueError, struct.error, msgspec.DecodeError):
            raise self._other_version("its messages are others") from None

    def _decode(self, found: Mapping[str, list[Message]]) -> None:
        ticks, chunks = found[messages.TICK], found[messages.CHUNK]
        self.ticks: NDArray[Any] = tick_type(self.config).decode([m.data for m in ticks])
        decoded = chunk_type(self.config).decode([m.data for m in chunks])
        self.chunks: dict[int, Any] = {m.sequence: decoded[i] for i, m in enumerate(chunks)}
        self.events: list[Event] = [
            decode_event(m.log_time - self.offset_ns, m.data) for m in found[messages.EVENT]
        ]
        told = found[messages.RECORDER]
        self.lost = msgspec.json.decode(told[-1].data, type=Told).lost if told else {}
        """By ring, as its recorder counted them last."""

    def frames(self, camera: str) -> Iterator[tuple[int, bytes]]:
        """When each image was captured, CLOCK_MONOTONIC ns, and the JPEG; in their order.

        Raises ConfigError if there is no such camera.
        """
        cameras = self.config.params.camera_names
        if camera not in cameras:
            known = ", ".join(cameras) or "none"
            raise ConfigError(f"{self.path}: expected one of its cameras ({known}), got {camera!r}")
        topic = messages.IMAGES + camera
        for record in whole_records(self.path, []):
            if isinstance(record, Message) and self._topics.get(record.channel_id) == topic:
                try:
                    yield record.log_time - self.offset_ns, decode_image(record.data)
                except (ValueError, struct.error):
                    raise self._other_version("its images are others") from None

    def _read_meta(self, records: Iterator[McapRecord], problems: list[str]) -> dict[str, str]:
        """What the file says of itself, at its beginning."""
        record = next(records, None)
        if not isinstance(record, Metadata) or record.name != META:
            cut = "one that ends before it says what it is, or another program's"
            got = cut if problems else "another MCAP file"
            raise ConfigError(f"{self.path}: expected a recording of rt, got {got}")
        return record.metadata

    def _check_layout(self) -> None:
        layout = self.meta.get("layout")
        if layout != LAYOUT:
            raise self._other_version(f"its layout is {layout}, expected {LAYOUT}")
        if not re.fullmatch(r"[0-9]{1,19}", self.meta.get("offset_ns", "")):
            raise self._other_version("its clock is not told")

    def _read_config(self, records: Iterator[McapRecord]) -> Config:
        record = next(records, None)
        encoded = record.metadata.get("json", "") if isinstance(record, Metadata) else ""
        try:
            return decode_config(encoded.encode())
        except ConfigError:
            raise self._other_version("its configuration has other keys, or is cut") from None

    def _read(self, records: Iterator[McapRecord]) -> dict[str, list[Message]]:
        """The messages that are decoded."""
        found = defaultdict[str, list[Message]](list)
        schemas: dict[int, Schema] = {}
        for record in records:
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                self._topics[record.id] = record.topic
                self._check_fields(record, schemas)
            elif isinstance(record, Message):
                topic = self._topics.get(record.channel_id, "")  # "": its chunk is damaged
                if topic in KEPT:
                    found[topic].append(record)
        return found

    def _check_fields(self, channel: Channel, schemas: Mapping[int, Schema]) -> None:
        for topic, kind in ((messages.TICK, tick_type), (messages.CHUNK, chunk_type)):
            expected = kind(self.config).type.definition.encode()
            schema = schemas.get(channel.schema_id)
            if channel.topic == topic and (schema is None or schema.data != expected):
                raise self._other_version(f"its {topic} has other fields")

    def _other_version(self, difference: str) -> ConfigError:
        version = " ".join(self.meta.get(key, "") for key in ("version", "git")).strip()
        return ConfigError(
            f"{self.path}: this version of rt cannot read it: {difference}: read it with the one "
            f"that wrote it ({version or 'unknown'})"
        )
