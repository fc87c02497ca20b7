"""`--to rerun [FILE.rrd]`: a recording in Rerun's viewer, or as a file for it.

Rerun reads joints, images and events, with every hold, out of the MCAP file by itself. On the same
timelines go with them:

/rt/wake_error_ms   how late each tick woke
/rt/work_ms         how long it took
/rt/delay/counted   rows from each chunk's observation to its first use
/rt/delay/planned   and as many as were planned
/rt/swap            in words, which chunk came into use
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt.delays import delays, swaps
from rt.errors import ConfigError, MissingPackageError
from rt.record.mending import mend
from rt.record.reading import Recording
from rt.replay.beside import written_beside

TIMELINES = ("message_log_time", "message_publish_time")  # as Rerun names them; ours are the same


def convert(recording: Recording, file: Path | None = None) -> str:
    """Write the new `file`; or without one open the viewer, and wait until it is closed. Returns in
    words what was done.

    Raises MissingPackageError without Rerun; ConfigError if `file` exists or cannot be written, or
    the viewer does not open.
    """
    if file is not None:
        if file.suffix != ".rrd":
            raise ConfigError(f"{file}: expected a name that ends in .rrd, as Rerun's files do")
        with written_beside(file) as beside:
            _write(recording, beside)
        return f"wrote {file}: python -m rerun {file} opens it"
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder) / f"{recording.path.stem}.rrd"
        _write(recording, shown)
        _view(shown)
    return f"showed {recording.path}"


def _view(file: Path) -> None:
    # By default it listens on every interface; and the one that is open already would be taken.
    command = [sys.executable, "-m", "rerun", "--bind", "127.0.0.1", "--port", "auto", str(file)]
    if code := subprocess.call(command):
        raise ConfigError(
            f"Rerun's viewer: expected it to open, got exit code {code}: on a machine without a "
            "display write a file for another one, with --to rerun X.rrd"
        )


def _write(recording: Recording, file: Path) -> None:
    os.environ.setdefault("RUST_LOG", "error")  # or it warns that /rt/recorder has no schema
    try:
        rr = import_module("rerun")
    except ImportError as error:
        raise MissingPackageError(
            f"--to rerun needs rerun-sdk ({error}): in the project's folder, "
            "pip install -e '.[rerun]'"
        ) from error
    stream = rr.RecordingStream("rt")
    stream.save(file)
    stream.send_recording_name(recording.path.stem)
    with tempfile.TemporaryDirectory() as folder:
        path = recording.path
        if recording.problem:  # Rerun reads no file without an index
            path = Path(folder) / path.name
            mend(recording.path, path)
        stream.log_file_from_path(path)
        if len(recording.ticks):
            _send_figures(rr, stream, recording)
        try:
            stream.flush()  # which waits until the file was read
        except RuntimeError as error:
            raise ConfigError(f"Rerun did not write it all: {error}: is the disk full?") from None
    stream.disconnect()


def _send_figures(rr: Any, stream: Any, recording: Recording) -> None:
    ticks = recording.ticks

    def send(name: str, t_ns: NDArray[np.int64], columns: Any) -> None:
        times = (t_ns + recording.offset_ns).astype("datetime64[ns]")
        indexes = [rr.TimeColumn(timeline, timestamp=times) for timeline in TIMELINES]
        stream.send_columns(f"/rt/{name}", indexes, columns)

    late, took = ticks["t_wake"] - ticks["t_due"], ticks["t_done"] - ticks["t_wake"]
    send("wake_error_ms", ticks["t_done"], rr.Scalars.columns(scalars=late / 1e6))
    send("work_ms", ticks["t_done"], rr.Scalars.columns(scalars=took / 1e6))
    found = delays(recording.config, ticks, recording.chunks)
    used = np.array([round(delay.t_s * 1e9) for delay in found], np.int64) + ticks["t_wake"][-1]
    for name in ("counted", "planned"):
        numbers = np.array([getattr(delay, name) for delay in found], float)
        send(f"delay/{name}", used, rr.Scalars.columns(scalars=numbers))
    new = swaps(ticks)
    words = [f"tick {t['tick']}: chunk {t['chunk']} from its row {t['row']:g} on" for t in new]
    send("swap", new["t_done"], rr.TextLog.columns(text=words, level=["INFO"] * len(words)))
