"""The keys under `policy` of a `type: remote_policy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rt.cli import read_secret


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The YAML's keys. connect_timeout_s: how long a start tries to find a server. seed: of how
    long it waits between tries; None: no two robots are the same."""

    url: str | Annotated[tuple[str, ...], Meta(min_length=1)]
    api_key_file: str | None = None
    deadline_ms: Annotated[float, Meta(gt=0)] = 1000.0
    image_encoding: Literal["raw", "jpeg"] = "raw"
    camera_map: Annotated[dict[str, str], Meta(min_length=1)] | None = None
    state_key: str | None = None
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    seed: int | None = None


def headers(api_key_file: str | None) -> dict[str, str]:
    """Of the handshake. Raises ConfigError."""
    if api_key_file is None:
        return {}
    key = read_secret(Path(api_key_file), "policy.api_key_file", "key")
    return {"Authorization": f"Api-Key {key}"}
