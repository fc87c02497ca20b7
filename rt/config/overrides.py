"""`--set key=value`: change one value of the configuration, checked as if it stood in its file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from rt.config.files import convert, parse_yaml
from rt.config.schema import RobotConfig, RunOptions, RuntimeParams, RuntimeTopics
from rt.config.words import describe, dotted, nearest
from rt.errors import ConfigError

T = TypeVar("T")

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "robot": RobotConfig,
    "params": RuntimeParams,
    "topics": RuntimeTopics,
    "run": RunOptions,
}


class Override(NamedTuple):
    """One `--set`, for one section."""

    section: str
    keys: tuple[str, ...]  # the way to the value; a list's index is still text
    value: Any
    text: str  # as given, for errors

    @property
    def name(self) -> str:
        """The whole way, e.g. `robot.joint_groups[2].max_delta_deg`."""
        return dotted((self.section, *(int(key) if key.isdigit() else key for key in self.keys)))


def parse_overrides(texts: Iterable[str]) -> tuple[Override, ...]:
    """The `--set` flags in their order, e.g. `params.HZ=10` or `robot.realtime.spin_us=60`.

    The first part is a section, or a key of one: a bare key is set in every section that has it
    (`HZ=10` in params and topics, which must agree). Values are YAML.
    Raises ConfigError for a flag without `=`, an unknown key or a value that is not YAML.
    """
    return tuple(override for text in texts for override in _parse(text))


def apply(
    overrides: Iterable[Override], section: str, mapping: dict[str, Any], kind: type[T], path: str
) -> T:
    """The section's struct: `mapping`, read from `path`, then each of its overrides.

    Each is converted on its own, so that an error names the file or the flag that is to blame.
    `mapping` is changed.
    """
    struct = convert(mapping, kind, path)
    for override in overrides:
        if override.section == section:
            _put(mapping, override)
            struct = convert(mapping, kind, f"--set {override.text}")
    return struct


def _parse(text: str) -> list[Override]:
    name, equals, value_text = text.partition("=")
    keys = tuple(re.findall(r"[^.\[\]]+", name))
    if not equals or not keys:
        raise ConfigError(f"--set {text}: expected KEY=VALUE, e.g. --set params.max_delta_deg=3")
    try:
        value = parse_yaml(value_text)
    except (ValueError, RecursionError, yaml.YAMLError):
        raise ConfigError(
            f"--set {text}: expected a YAML value such as 3, true, text or [1, 2], "
            f"got {value_text!r}"
        ) from None
    if keys[0] in SECTIONS and len(keys) > 1:
        return [Override(keys[0], keys[1:], value, text)]
    fields = {section: kind.__struct_fields__ for section, kind in SECTIONS.items()}
    holders = [section for section, names in fields.items() if keys[0] in names]
    if keys[0] in SECTIONS and not holders:
        names = ", ".join(fields[keys[0]])
        raise ConfigError(f"--set {text}: expected {keys[0]}.KEY=VALUE, with KEY one of {names}")
    if not holders:
        known = {*SECTIONS, *(field for names in fields.values() for field in names)}
        raise ConfigError(f"--set {text}: unknown key {keys[0]!r}: {nearest(keys[0], known)}")
    return [Override(section, keys, value, text) for section in holders]


def _put(mapping: dict[str, Any], override: Override) -> None:
    """Store the value; mappings that are absent on the way are made, `convert` judges them."""
    container: Any = mapping
    for depth, key in enumerate(override.keys):
        way = dotted((override.section, *override.keys[:depth]))
        step: str | int = key
        if isinstance(container, list):
            if not (key.isdigit() and int(key) < len(container)):
                raise ConfigError(
                    f"--set {override.text}: {way}: expected an index from 0 to "
                    f"{len(container) - 1}, got {key!r}"
                )
            step = int(key)
        elif not isinstance(container, dict):
            raise ConfigError(
                f"--set {override.text}: {way}: expected a mapping or a list to hold {key!r}, "
                f"got {describe(container)}"
            )
        if depth == len(override.keys) - 1:
            container[step] = override.value
        else:
            container = container[step] if isinstance(step, int) else container.setdefault(key, {})
