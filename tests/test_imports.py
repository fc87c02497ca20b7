"""Who may know whom (docs/architecture.md), checked in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launched import ROOT

HEAVY = {"torch", "cv2", "rclpy", "mujoco", "matplotlib", "websockets", "mcap"}


def imported_by(module: str) -> set[str]:
    """Every module in memory after importing `module`."""
    code = f"import sys, {module}; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["rt.control.process", "rt.robots.sim.robot", "rt.launcher.run", "rt.inspect", "rt.command"],
)
def test_nothing_heavy_is_imported_outside_inference(module: str) -> None:
    assert imported_by(module) & HEAVY == set()


def test_control_and_inference_do_not_know_each_other() -> None:
    assert not any(m.startswith("rt.infer") for m in imported_by("rt.control.process"))
    assert not any(m.startswith("rt.control") for m in imported_by("rt.infer.process"))


def test_shm_knows_nobody() -> None:
    known = {m for m in imported_by("rt.shm") if m.startswith("rt.")}
    assert {m for m in known if not m.startswith("rt.shm")} == {"rt.errors"}


def test_no_driver_knows_control_or_inference() -> None:
    for driver in ("rt.robots.sim.robot", "rt.robots.sim.process", "rt.robots.igris_b"):
        known = imported_by(driver)
        assert not any(m.startswith(("rt.infer", "rt.control")) for m in known)
