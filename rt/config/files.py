"""Read a JSON or YAML file and convert it to a struct; every mistake names the file and the key.

Used for all configuration: a robot's files, a policy's files and `--set key=value`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from rt.config.words import Key, describe, dotted, explain
from rt.errors import ConfigError

T = TypeVar("T")

MOST = 100_000  # values in a file: aliases in YAML can make billions of a few lines


def read_mapping(path: Path | str) -> dict[str, Any]:
    """The mapping in a `.json`, `.yaml` or `.yml` file.

    Raises ConfigError when the file is missing, unreadable, empty, truncated, not UTF-8, holds the
    same key twice, or is anything but a mapping at the top.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise ConfigError(
            f"{path}: expected a file whose name ends in .json, .yaml or .yml, "
            f"got {Path(path).name!r}"
        )
    text = _read_text(path)
    if not text.strip():
        raise ConfigError(f"{path}: expected a mapping of keys to values, got an empty file")
    try:
        content = _parse_json(text) if suffix == ".json" else parse_yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if suffix == ".json" else "YAML"
        raise ConfigError(f"{path}: expected valid {kind}, got {_complaint(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected a mapping of keys to values at the top, got {describe(content)}"
        )
    return content


def convert(mapping: object, kind: type[T], path: Path | str) -> T:
    """`mapping` as a `kind` (a msgspec Struct), strictly.

    `path` is what an error names as the place: a file, or a command line flag.
    Raises ConfigError for an unknown, missing or wrong-typed key, naming the way to it.
    """
    try:
        _refuse_odd_values(mapping, path, ())
        return msgspec.convert(mapping, kind)
    except RecursionError:  # YAML can say that a list holds itself
        raise ConfigError(f"{path}: expected plain values, got endless nesting") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {explain(str(error), mapping, kind)}") from None


def parse_yaml(text: str) -> Any:
    """Plain YAML. Raises yaml.YAMLError or ValueError; a key that stands twice is an error."""
    try:
        content = yaml.load(text, Loader=_Loader)
    except (AttributeError, LookupError, OverflowError, TypeError):  # PyYAML's, say of !!bool maybe
        raise ValueError("a value that is not of the kind that its tag says") from None
    todo, seen = [content], 0
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list):
            seen += len(value)
            if seen > MOST:  # whoever walks through it, or shows it, would never end
                raise ValueError(f"aliases that make endless nesting, or more than {MOST} values")
            todo.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, set | tuple):  # a set has no order, and nobody would look into pairs
            raise ValueError("a set or pairs, which no setting is")
    return content


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader, which keeps the last of two equal keys, made to refuse them."""

    _pairs = 0  # of all mappings so far

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"the key {key.value!r} twice, again in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """`<<` copies what it merges: of aliases of aliases, nine times the last in every line."""
        super().flatten_mapping(node)
        self._pairs += len(node.value)
        if self._pairs > MOST:
            raise ValueError(f"`<<` that merges more than {MOST} values")


def is_file(path: Path) -> bool:
    """Path.is_file; False for what it raises on, say a name that is too long or holds a NUL."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Path.is_dir, likewise."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def absolute(path: str) -> Path:
    """Without links; as it is, if they lead round in a circle. Whoever opens it will say so."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        return Path.cwd() / path


def _parse_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
        return mapping

    return json.loads(text, object_pairs_hook=unique)


def _read_text(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a file, but nothing is there") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x} at "
            f"offset {error.start}: save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path}: expected a path, got one that holds a NUL") from None


def _complaint(error: Exception) -> str:
    """A parser's error as one phrase with its line."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} in line {error.lineno}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    if isinstance(error, RecursionError):
        return "lists or mappings nested too deeply"
    return " ".join(str(error).split())


def _refuse_odd_values(value: object, path: Path | str, keys: tuple[Key, ...]) -> None:
    """JSON and YAML can spell what no setting means: NaN, infinity, numbers and text that nothing
    else can hold, and keys that are not text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                place = dotted(keys) or "at the top"
                raise ConfigError(
                    f"{path}: {place}: expected keys that are text, got {describe(key)}: quote it"
                )
            _refuse_odd_values(key, path, keys)
            _refuse_odd_values(inner, path, (*keys, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_odd_values(inner, path, (*keys, index))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: {dotted(keys)}: expected a finite number, got {value}")
    elif isinstance(value, int) and value.bit_length() > 1023:
        raise ConfigError(
            f"{path}: {dotted(keys)}: expected a number below 1e308, got a larger one"
        )
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        raise ConfigError(f"{path}: {dotted(keys)}: expected text, got half a character: {value!r}")
