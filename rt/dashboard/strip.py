"""The chunk in use as a strip: which of its rows were executed, and how the others came about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from rich.text import Text


class Kind(NamedTuple):
    """What has become of a row, and how it is drawn."""

    name: str
    glyph: str
    ascii_glyph: str
    style: str


FROZEN = Kind("frozen", "█", "#", "cyan")  # what was executed while the chunk was computed
OVERLAP = Kind("overlap", "▒", "+", "blue")  # pulled to what was left of the chunk before
NEW = Kind("new", "░", ".", "")
EXECUTED = Kind("executed", "─", "-", "dim")
NOW = Kind("now", ">", ">", "bold green")
KINDS = (FROZEN, EXECUTED, NOW, OVERLAP, NEW)


def rows(chunk: dict[str, Any], executed: Collection[int]) -> list[Kind]:
    """(H,) of the snapshot's `chunk`. `executed`: the rows that control has sent so far."""

    def kind(row: int, weight: float) -> Kind:
        if row <= chunk["row"] < row + 1:
            return NOW
        if row in executed:
            return EXECUTED
        if not weight > 0:  # NaN too
            return NEW
        return FROZEN if weight >= 1 and row < chunk["d_planned"] else OVERLAP

    return [kind(row, weight) for row, weight in enumerate(chunk["weights"])]


def strip(kinds: Sequence[Kind], width: int, *, ascii_only: bool = False) -> Text:
    """At most `width` characters: several for a row, or several rows in one."""
    count = len(kinds)
    cells = count * (width // count) if count <= width else width
    drawn = Text()
    for cell in range(cells):
        covered = kinds[cell * count // cells : -(-(cell + 1) * count // cells)]
        kind = NOW if NOW in covered else covered[0]
        drawn.append(_glyph(kind, ascii_only), kind.style)
    return drawn


def legend(kinds: Sequence[Kind], *, ascii_only: bool = False) -> Text:
    """What the glyphs mean, and how many rows are so."""
    parts = []
    for kind in KINDS:
        if kind in kinds:
            count = f"row {kinds.index(NOW)}" if kind is NOW else str(kinds.count(kind))
            parts.append(
                Text.assemble((_glyph(kind, ascii_only), kind.style), f" {kind.name} {count}")
            )
    return Text("   ").join(parts)


def _glyph(kind: Kind, ascii_only: bool) -> str:
    return kind.ascii_glyph if ascii_only else kind.glyph
