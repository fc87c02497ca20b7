"""A recording that was cut becomes a whole one, with the index that other programs ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from mcap.records import Channel, Header, McapRecord, Message, Metadata, Schema
from mcap.writer import Writer

from rt.errors import ConfigError
from rt.record.output import Output
from rt.record.reading import whole_records


def mend(path: Path, out: Path) -> int:
    """Write all that is whole in `path` to the new file `out`; returns the count of its messages.

    Raises ConfigError if `path` is no recording, or if `out` exists or cannot be written.
    """
    records = whole_records(path, [])
    header = next(records, None)
    if not isinstance(header, Header):
        raise ConfigError(f"{path}: expected a recording, got nothing that can be mended")
    try:
        output = Output(out)
        try:
            return _copy(header, records, output)
        except OSError:
            out.unlink()
            raise
        finally:
            output.close()
    except OSError as error:
        raise ConfigError(f"{out}: expected a new file, got: {error.strerror}") from None


def _copy(header: Header, records: Iterator[McapRecord], output: Output) -> int:
    mcap = Writer(cast(IO[Any], output), enable_data_crcs=True)
    mcap.start(header.profile, header.library)
    schemas, channels, count = {0: 0}, dict[int, int](), 0  # ours by theirs
    for record in records:
        if isinstance(record, Metadata):
            mcap.add_metadata(record.name, record.metadata)
        elif isinstance(record, Schema) and record.id not in schemas:  # its end repeats them
            data = record.name, record.encoding, record.data
            schemas[record.id] = mcap.register_schema(*data)
        elif isinstance(record, Channel) and record.id not in channels:
            channels[record.id] = mcap.register_channel(
                record.topic, record.message_encoding, schemas[record.schema_id], record.metadata
            )
        elif isinstance(record, Message):
            times = record.log_time, record.data, record.publish_time, record.sequence
            mcap.add_message(channels[record.channel_id], *times)
            count += 1
    mcap.finish()
    return count
