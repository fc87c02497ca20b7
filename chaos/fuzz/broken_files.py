"""Real files to break, and bytes that never were one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from hypothesis import strategies as st

Way = tuple[str | int, ...]

ODD = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**30, 0.5, -0.0, 1e-308),
    *(1e308, -1e308, float("nan"), float("inf"), float("-inf"), "", " ", ".", "..", "/", "\0"),
    *("a\nb", "\x1b[2J", "\ud800", "é" * 40, "x" * 5000, "../" * 40, "1e3", "nan", "{robot_id}"),
    *([], {}, [[]], [None], [{}], {"": 0}, {"a\nb": 1}, {"a.b[0]": 1}, {"...": 1}, list(range(50))),
]


def odd_values() -> st.SearchStrategy[Any]:
    """What stands where something else is expected."""
    plain = st.one_of(
        st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=12), st.booleans()
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
        ),
        max_leaves=4,
    )


@st.composite
def broken(draw: Callable[..., Any], content: Any) -> Any:
    """`content`, a mapping out of a real file, with one to three things wrong somewhere."""
    content = copy.deepcopy(content)
    odd = odd_values().map(copy.deepcopy)  # the next thing that goes wrong may be inside
    for _ in range(draw(st.integers(1, 3))):
        ways = list(_ways(content))
        if not ways:
            return content
        *up, last = draw(st.sampled_from(ways))
        holder = content
        for key in up:
            holder = holder[key]
        act = draw(st.sampled_from(["drop", "replace", "replace", "rename", "swap", "wrap", "add"]))
        if act == "drop":
            del holder[last]
        elif act == "rename" and isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = holder.pop(last)
        elif act == "swap":
            value = content
            for key in draw(st.sampled_from(ways)):
                value = value[key]
            holder[last] = copy.deepcopy(value)
        elif act == "wrap":
            holder[last] = [holder[last]]
        elif act == "add" and isinstance(holder, list):
            holder.insert(last, draw(odd))
        elif act == "add":
            holder[draw(st.text(max_size=8))] = draw(odd)
        else:
            holder[last] = draw(odd)
    return content


def changed_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` cut short, or with a few bytes changed."""
    places = st.integers(0, len(content) - 1)

    def change(cut: int, edits: dict[int, int]) -> bytes:
        changed = bytearray(content)
        for place, value in edits.items():
            changed[place] = value
        return bytes(changed[: cut or None])

    edits = st.dictionaries(places, st.integers(0, 255), max_size=6)
    return st.builds(change, st.one_of(st.just(0), places), edits)


def _ways(value: Any, way: Way = ()) -> Iterator[Way]:
    """The way to everything inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inner:
        yield (*way, key)
        if isinstance(item, dict | list):
            yield from _ways(item, (*way, key))


def as_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, allow_unicode=False).encode()


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode()


LAUGHS = "\n".join(
    f"{letter}: &{letter} [{', '.join([before] * 9)}]"
    for before, letter in zip(["lol", *(f"*{x}" for x in "abcdefgh")], "abcdefghi", strict=True)
)
JUNK = [
    b"",
    b"\n \t\n",
    b"\xef\xbb\xbf",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b"\0" * 100,
    bytes(range(256)),
    b"[" * 2_000,
    b'{"a":' * 2_000,
    b"{" * 500,
    b"a: " * 500,
    b"- " * 1000,
    LAUGHS.encode(),
    f"name: igris_b\noptions: {{\n{LAUGHS}\n}}".replace("]\n", "],\n").encode(),
    b"&a [*a]",
    b"a: &a {b: *a}",
    b"<<: &a {<<: *a}",
    b"<<: [1, 2]",
    b"? [a, b]\n: 1",
    b"? {a: b}\n: 1",
    b"a: !!python/object/apply:os.system ['true']",
    b"a: !!python/name:os.system",
    b"a: !!binary x",
    b"a: !!binary '////'",
    b"a: !!set {b, c}",
    b"a: !!omap [b: 1]",
    b"a: !!timestamp nonsense",
    b"a: !!float nonsense",
    b"a: !!int ''",
    b"a: !!bool maybe",
    b"a: 2026-13-45",
    b"a: 2026-01-01",
    b"a: 2026-01-01 00:00:00 +99:99",
    b"a: !unknown b",
    b"a: =",
    b"a: 0x" + b"f" * 6000,
    b"a: " + b"9" * 6000,
    b"a: " + b"1:" * 3000 + b"1",
    b'{"a": ' + b"9" * 6000 + b"}",
    b'{"a": 1e999999}',
    b'{"a": -Infinity, "a": NaN}',
    b'{"\\ud800": "\\udfff"}',
    b"%YAML 9.9\n--- a",
    b"--- a: 1\n--- b: 2\n",
    b"a: 1\n---\nb: 2\n",
    b"%TAG ! tag:x,2000:\n---\na: !b c",
    b"{" + b",".join(b'"k%d": 1' % i for i in range(3_000)) + b"}",
]
