"""Who may know whom (docs/architecture.md), checked in fresh interpreters."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from launched import ROOT

HEAVY = {"torch", "cv2", "rclpy", "mujoco", "matplotlib", "websockets", "mcap", "ray"}


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


def test_the_wire_knows_errors_and_arrays_only() -> None:
    known = imported_by("rt.wire.protocol, rt.wire.openpi, rt.wire.images")
    ours = {m for m in known if m.startswith("rt.") and not m.startswith("rt.wire")}
    assert ours == {"rt.errors", "rt.arrays"}


def test_a_robot_needs_neither_torch_nor_the_server() -> None:
    policy = "rt.infer.policies.remote_policy"
    assert imported_by(policy) & HEAVY == set()
    known = imported_by(f"{policy}.link")
    assert known & HEAVY == {"websockets"}
    assert not any(module.startswith(("rt.serve", "rt.control")) for module in known)


# By package or module who may import it, by the beginning of its path.
ONLY = {
    "websockets": ("rt/web/", "rt/serve/front.py", "rt/infer/policies/remote_policy/"),
    "ray": ("rt/serve/fleet.py",),
    "rt.serve": ("rt/serve/",),
    "rt.infer.policies.remote_policy": ("rt/infer/policies/remote_policy/",),
    "rt.wire": ("rt/wire/", "rt/serve/", "rt/infer/policies/"),
}


@pytest.mark.parametrize("imported", ONLY)
def test_what_goes_over_the_network_is_known_in_few_places(imported: str) -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("rt/**/*.py")
        for name in names_imported(ast.parse(path.read_text()))
        if f"{name}.".startswith(f"{imported}.")
    }
    assert {path for path in knowing if not path.startswith(ONLY[imported])} == set()


def names_imported(module: ast.Module) -> list[str]:
    """Also in functions."""
    names = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_inference_without_a_remote_policy_is_without_what_it_needs() -> None:
    assert imported_by("rt.infer.process") & (HEAVY | {"rt.wire", "rt.serve"}) == set()


def test_no_driver_knows_control_or_inference() -> None:
    for driver in ("rt.robots.sim.robot", "rt.robots.sim.process", "rt.robots.igris_b"):
        known = imported_by(driver)
        assert not any(m.startswith(("rt.infer", "rt.control")) for m in known)
