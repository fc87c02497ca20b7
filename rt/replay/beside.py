"""A file or a folder that is there as a whole, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rt.errors import ConfigError


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when all went well: in a hidden folder beside it, which is
    gone afterwards, unless this is killed.

    Raises ConfigError if there is something at `path`, or it cannot be written.
    """
    try:
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path}: expected a new name, got one that exists: name another")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".rt-replay-") as folder:
            beside = Path(folder) / path.name
            yield beside
            # As the recording, its owner's alone: it has the same pictures.
            beside.chmod(0o700 if beside.is_dir() else 0o600)
            beside.rename(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a place that can be written to, got: {error.strerror or error}"
        ) from error
