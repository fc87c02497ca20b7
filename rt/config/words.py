"""Say what is wrong with a configuration: which key, what was expected, what came."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import inspect

Key = str | int  # one step into a mapping or a list
ANY_KEY = "..."  # how msgspec's paths name a mapping's value, whatever its key
PLAIN = {inspect.StrType: "text", inspect.BoolType: "true or false", inspect.NoneType: "null"}


def nearest(name: str, names: Iterable[str]) -> str:
    """How to mend an unknown name: the closest of `names`, else all of them."""
    names = sorted(names)
    folded = {known.casefold(): known for known in names}
    close = get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean {folded[close[0]]!r}?" if close else f"expected one of {', '.join(names)}"


def dotted(keys: Iterable[Key]) -> str:
    """`("joint_groups", 2, "name")` → `joint_groups[2].name`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def describe(value: object) -> str:
    """A value as a configuration's author would call it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    kind = "text " if isinstance(value, str) else "the list " if isinstance(value, list) else ""
    return kind + shown


def explain(complaint: str, mapping: object, kind: type[Any]) -> str:
    """msgspec's complaint in our words: the key path, what was expected, what came."""
    text, _, place = complaint.partition(" - at `$")
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", place)
    keys = [name or (int(index) if index.isdigit() else index) for name, index in steps]
    _name_any_keys(keys, complaint, mapping, kind)
    expected = _type_at(inspect.type_info(kind), keys)
    prefix = f"{dotted(keys)}: " if keys else ""
    if match := re.match(r"Object contains unknown field `(.*)`", text):
        names = [f.encode_name for f in getattr(expected, "fields", ())]
        return f"{prefix}unknown key {match[1]!r}: {nearest(match[1], names)}"
    if match := re.match(r"Object missing required field `(.*)`", text):
        wanted = _expected(_type_at(expected, [match[1]]))
        return f"{prefix}expected a key {match[1]!r} ({wanted}), got none: add it"
    if text.startswith(("Expected", "Invalid enum")):
        return f"{prefix}expected {_expected(expected)}, got {describe(_value_at(mapping, keys))}"
    return prefix + text


def _name_any_keys(keys: list[Key], complaint: str, mapping: object, kind: type[Any]) -> None:
    """Replace each `...` by the first key that alone draws the same complaint."""
    for i, key in enumerate(keys):
        if key != ANY_KEY:
            continue
        values = _value_at(mapping, keys[:i])
        for name in values:
            try:
                msgspec.convert(_replaced(mapping, keys[:i], {name: values[name]}), kind)
            except msgspec.ValidationError as error:
                if str(error) == complaint:
                    keys[i] = name
                    break


def _value_at(value: Any, keys: list[Key]) -> Any:
    for key in keys:
        value = value[key]
    return value


def _replaced(value: Any, keys: list[Key], new: object) -> Any:
    """A copy of `value` with `new` at `keys`."""
    if not keys:
        return new
    items = value.copy()
    items[keys[0]] = _replaced(items[keys[0]], keys[1:], new)
    return items


def _type_at(node: Any, keys: list[Key]) -> Any:
    """The type that stands at `keys` below the type `node`; None if msgspec cannot tell."""
    for key in keys:
        options = node.types if isinstance(node, inspect.UnionType) else (node,)
        node = next((found for o in options if (found := _step(o, key)) is not None), None)
    return node


def _step(node: Any, key: Key) -> Any:
    if isinstance(node, inspect.StructType):
        return next((f.type for f in node.fields if f.encode_name == key), None)
    if isinstance(node, inspect.DictType):
        return node.value_type
    if isinstance(node, inspect.TupleType) and isinstance(key, int):
        return node.item_types[key]
    return getattr(node, "item_type", None)


def _expected(node: Any, *, many: bool = False) -> str:
    """A type in words, e.g. `a number > 0`; `many`: as a list's items, `numbers > 0`."""
    for plain, words in PLAIN.items():
        if isinstance(node, plain):
            return words
    if isinstance(node, inspect.UnionType):
        return " or ".join(_expected(option) for option in node.types)
    if isinstance(node, inspect.LiteralType):
        return f"one of {', '.join(map(str, node.values))}"
    if isinstance(node, inspect.TupleType):
        return f"a list of {len(node.item_types)} {_expected(node.item_types[0], many=True)}"
    if hasattr(node, "item_type"):
        return f"a list of {_expected(node.item_type, many=True)}"
    word = "mapping"
    if isinstance(node, inspect.IntType | inspect.FloatType):
        word = "whole number" if isinstance(node, inspect.IntType) else "number"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [(sign, getattr(node, name, None)) for name, sign in signs.items()]
    bounds = " and ".join(f"{sign} {limit:.7g}" for sign, limit in limits if limit is not None)
    return (f"{word}s" if many else f"a {word}") + (f" {bounds}" if bounds else "")
