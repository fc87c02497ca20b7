"""What chaos/ and bench/ both take, so that they can be run together."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write", action="store_true", help="write what was measured into docs/")
