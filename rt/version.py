"""Which rt this is."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """As pip knows it; "unknown" of what was never installed."""
    try:
        return version("rt")
    except PackageNotFoundError:
        return "unknown"
