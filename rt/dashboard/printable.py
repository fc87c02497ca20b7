"""Names and reasons come from files, drivers and other programs: not all of them can be shown."""

from __future__ import annotations


def printable(text: str, *, ascii_only: bool = False) -> str:
    """The same, as long, with `?` for what a terminal would obey or cannot show."""
    return "".join(c if c.isprintable() and (c.isascii() or not ascii_only) else "?" for c in text)
