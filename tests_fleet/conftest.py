"""One cluster for all of it."""

from __future__ import annotations

import os
import secrets
import sys
import warnings
from collections.abc import Iterator

import pytest
from launched import ROOT

sys.path.insert(0, str(ROOT / "chaos/sessions"))  # robots whose every command is judged
# Ray listens on all interfaces and runs what it is told; it reads this when it is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_urlsafe(32)}
with warnings.catch_warnings(action="ignore"):  # of Ray's imports
    import clusters


@pytest.fixture(scope="session")
def nodes() -> Iterator[clusters.Nodes]:
    with clusters.Nodes(2) as made:
        yield made
