"""`--long` measures for longer and more cases; `--write` makes docs/benchmarks.md anew from it."""

from __future__ import annotations

import benchmarks
import pytest
import results
from waking import control_core


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks")
    group.addoption("--long", action="store_true", help="measure for longer, and more cases")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this is `make bench` and not the three minutes of `pytest bench`."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def core() -> int:
    """Control's, for `waking.our_loop`."""
    return control_core()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    flags = "--long" if config.getoption("--long") else "the short form"
    results.conclude(terminalreporter, benchmarks.PAGE, exitstatus, flags)
