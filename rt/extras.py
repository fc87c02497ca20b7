"""The extras of pyproject.toml, and the one sentence that tells whoever lacks one."""

from __future__ import annotations

from importlib.util import find_spec

from rt.errors import MissingPackageError

# By extra its modules, and the package that each is in.
EXTRAS = {
    "sim": {"mujoco": "mujoco", "cv2": "opencv-python-headless"},
    "dds": {"cyclonedds": "cyclonedds"},
    "viz": {"matplotlib": "matplotlib"},
    "record": {"mcap": "mcap", "cv2": "opencv-python-headless"},
    "web": {"websockets": "websockets", "cv2": "opencv-python-headless"},
    "remote": {"websockets": "websockets", "cv2": "opencv-python-headless"},
    "metrics": {"prometheus_client": "prometheus-client"},
    "rerun": {"rerun": "rerun-sdk"},
    "fleet": {"ray": "ray[serve]", "websockets": "websockets", "cv2": "opencv-python-headless"},
}


def missing(extra: str) -> list[str]:
    """The modules of `extra` that are not installed."""
    return [module for module in EXTRAS[extra] if find_spec(module) is None]


def need(extra: str, who: str) -> None:
    """Raises MissingPackageError unless `extra` is installed. who: what needs it."""
    if absent := [EXTRAS[extra][module] for module in missing(extra)]:
        raise MissingPackageError(
            f"{who} needs {' and '.join(absent)}: in the project's folder, "
            f"pip install -e '.[{extra}]'"
        )
