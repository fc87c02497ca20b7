"""Lines of a dashboard: a label, then parts beside each other."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

LABEL = 11  # characters
GAP = "   "
Part = str | tuple[str, str] | Text  # words, or words and their style


def labelled(label: str, parts: Iterable[Part]) -> Text:
    """The parts behind their label."""
    return Text.assemble((f"{label:<{LABEL}}", "dim"), spread(parts))


def spread(parts: Iterable[Part]) -> Text:
    """The parts beside each other."""
    return Text(GAP).join(Text.assemble(part) for part in parts)


def packed(label: str, parts: Iterable[Part], width: int) -> list[Text]:
    """The parts behind their label, as many to a line as fit into `width`."""
    lines: list[list[Text]] = [[]]
    for part in map(Text.assemble, parts):
        if lines[-1] and spread([*lines[-1], part]).cell_len > width - LABEL:
            lines.append([])
        lines[-1].append(part)
    return [labelled("" if i else label, line) for i, line in enumerate(lines)]


def microseconds(us: float) -> str:
    """820 us, or what `milliseconds` says."""
    return f"{us:.0f} us" if us < 1e4 else milliseconds(us / 1e3)


def milliseconds(ms: float) -> str:
    """820 ms, 30 s or 20 min."""
    if abs(ms) < 1e4:
        return f"{round(ms)} ms"  # of -0.3 it is 0
    return f"{ms / 1e3:.0f} s" if abs(ms) < 1e6 else f"{ms / 6e4:.0f} min"
