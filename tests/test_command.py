"""The operator's command line."""

from __future__ import annotations

from launched import run_module

from rt.records import Order


def test_help_says_in_a_line_what_each_order_does() -> None:
    shown = run_module("rt.command", "--help").stdout
    meanings = dict(line.split(maxsplit=1) for line in shown.partition("orders:\n")[2].splitlines())
    assert meanings.keys() == {order.name.lower() for order in Order}


def test_an_unknown_order_is_answered_with_all_that_there_are() -> None:
    done = run_module("rt.command", "halt")
    assert done.returncode == 2
    assert all(order.name.lower() in done.stderr for order in Order)
