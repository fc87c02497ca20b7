"""What is allowed, and what was measured."""

from __future__ import annotations

from typing import Any

from budgets import BUDGETS
from results import table


def text(figures: dict[str, Any]) -> str:
    """The table of budgets."""
    rows: list[tuple[object, ...]] = [
        (
            budget.what,
            budget.peer,
            f"**{found['median']:.2f}×**",
            f"{found['low']:.2f} to {found['high']:.2f}",
            f"{budget.most:.2f}×",
        )
        for name, budget in BUDGETS.items()
        if (found := figures.get(name))
    ]
    head = ("What", "Beside", "Median", "95 % interval", "Budget")
    return f"""## Budgets

Ours and its peer are measured by turns in one run. `pytest bench/` fails if the budget lies below
the interval, that is if it is exceeded by more than noise. The Pipe beside a tick is one of
`multiprocessing`, which sends and receives the tick's record once.

{table(head, rows)}"""
