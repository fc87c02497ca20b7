"""A recording that was cut becomes a whole one, with the index that other programs ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from mcap.records import Channel, McapRecord, Message, Metadata, Schema
from mcap.writer import Writer

from rt.errors import ConfigError
from rt.record.output import Output
from rt.record.reading import Recording, whole_records
from rt.record.writer import LIBRARY, PROFILE


def mend(path: Path, out: Path) -> int:
    """Write all that is whole in `path` to the new file `out`; returns the count of its messages.

    Raises ConfigError as Recording does, and if `out` exists or cannot be written.
    """
    Recording(path)  # refuses what is none
    try:
        output = Output(out)
        try:
            return _copy(whole_records(path, []), output)
        except BaseException:
            out.unlink()
            raise
        finally:
            output.close()
    except OSError as error:
        raise ConfigError(f"{out}: expected a new file, got: {error.strerror}") from None


def _copy(records: Iterator[McapRecord], output: Output) -> int:
    mcap = Writer(cast(IO[Any], output), enable_data_crcs=True)
    mcap.start(PROFILE, LIBRARY)
    schemas, channels, count = {0: 0}, dict[int, int](), 0  # ours by theirs
    for record in records:
        if isinstance(record, Metadata):
            mcap.add_metadata(record.name, record.metadata)
        elif isinstance(record, Schema):
            data = record.name, record.encoding, record.data
            schemas[record.id] = mcap.register_schema(*data)
        elif isinstance(record, Channel):
            schema = schemas.get(record.schema_id, 0)
            channels[record.id] = mcap.register_channel(
                record.topic, record.message_encoding, schema, record.metadata
            )
        elif isinstance(record, Message) and record.channel_id in channels:
            times = record.log_time, record.data, record.publish_time, record.sequence
            mcap.add_message(channels[record.channel_id], *times)
            count += 1
    mcap.finish()
    return count
