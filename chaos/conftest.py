"""What is tried until it breaks: `rings` under writers that never rest, `sessions` that are killed,
cut off and misled, and, in `fuzz`, inputs that make no sense.

All of it draws from `dice`, seeded by `--seed` and the test's own name, so that a run can be
repeated."""

from __future__ import annotations

import random

import pytest
import reliability
import results
from scale import SCALES, Scale


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--scale", choices=SCALES, default="short", help="how much is tried")
    group.addoption("--seed", type=int, default=0, help="of everything that is drawn")


def pytest_report_header(config: pytest.Config) -> str:
    return f"chaos: {flags(config)}"


def flags(config: pytest.Config) -> str:
    return f"--scale {config.getoption('--scale')} --seed {config.getoption('--seed')}"


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    return SCALES[request.config.getoption("--scale")]


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """A source of chance that `--seed` repeats."""
    return random.Random(f"{request.config.getoption('--seed')} {request.node.name}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--scale") != "short":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    results.conclude(terminalreporter, reliability.PAGE, exitstatus, flags(config))
