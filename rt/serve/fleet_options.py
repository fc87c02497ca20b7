"""What is told to a fleet: the `args` of its YAML, or behind `serve run rt.serve.fleet:app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from rt.cli import listening_address, read_secret
from rt.config.files import absolute, convert, parse_yaml
from rt.errors import ConfigError
from rt.infer.loader import find_policy_class
from rt.infer.policy_config import load_policy_config
from rt.serve.access import tls_context
from rt.serve.desk import MAX_BATCH, MOST_BATCH

PLACE = "args"  # what an error names
FILES = ("api_key_file", "tls_cert", "tls_key")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every path is the same on each machine of the cluster.

    policies: by name the YAML that is served at ws://HOST:PORT/NAME; one alone, which has the name
        of its folder, at ws://HOST:PORT as well.
    max_batch: chunks that are computed together. policies_per_replica: that are in a GPU's memory
        at a time. version: whatever is another than before has everything begin anew, say because
        a checkpoint has changed.
    """

    policies: dict[str, str]
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8100
    api_key_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    max_batch: Annotated[int, Meta(ge=1, le=MOST_BATCH)] = MAX_BATCH
    policies_per_replica: Annotated[int, Meta(ge=1)] = 3
    version: str | int | float = 0


def read_options(args: dict[str, Any]) -> Options:
    """`args`, of which a text is YAML as that behind --set, checked with the files that they name.

    Raises ConfigError, and what rt.infer.policy_config and rt.infer.loader raise.
    """
    told = {key: _value(key, given) for key, given in args.items()}
    if isinstance(alone := told.get("policies"), str):
        told["policies"] = {absolute(alone).parent.name: alone}
    options = convert(told, Options, PLACE)
    if not options.policies:
        raise ConfigError(f"{PLACE}: policies: expected a policy's YAML at least, got none")
    policies = {name: str(absolute(path)) for name, path in options.policies.items()}
    for name, path in policies.items():
        _check_policy(name, Path(path))
    named = {file: getattr(options, file) for file in FILES}
    files = {file: str(absolute(path)) for file, path in named.items() if path is not None}
    options = msgspec.structs.replace(options, policies=policies, **files)
    address(options)
    tls_context(*tls_files(options))
    return options


def address(options: Options) -> str:
    """Where fronts listen, as numbers. Raises ConfigError."""
    return listening_address(
        options.host,
        options.port,
        read_key(options),
        name="key",
        mend="add api_key_file here and in the robot's policy YAML",
        place=f"{PLACE}: host",
    )


def read_key(options: Options) -> str | None:
    """What a robot must know. Raises ConfigError."""
    file = options.api_key_file
    return None if file is None else read_secret(Path(file), f"{PLACE}: api_key_file", "key")


def tls_files(options: Options) -> tuple[Path | None, Path | None]:
    """Of `rt.serve.access.tls_context`."""
    cert, key = (
        None if file is None else Path(file) for file in (options.tls_cert, options.tls_key)
    )
    return cert, key


def _value(key: str, given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return parse_yaml(given)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{PLACE}: {key}: expected a YAML value such as 8100, text or "
            f"{{NAME: FILE, NAME: FILE}}, got {given!r} ({' '.join(str(error).split())})"
        ) from None


def _check_policy(name: str, path: Path) -> None:
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise ConfigError(
            f"{PLACE}: policies: expected names of letters, digits, _ and -, because a robot's URL "
            f"ends in one, got {name!r}"
        )
    if hasattr(find_policy_class(load_policy_config(path)), "reset"):
        raise ConfigError(
            f"{PLACE}: policies.{name}: expected a policy that carries nothing from chunk to chunk,"
            f" since each may be computed elsewhere, got {path}: serve it with python -m rt.serve"
        )
