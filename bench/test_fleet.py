"""Simulated robots that ask a fleet of one to four replicas for chunks, beside `rt.serve` alone,
with a batch for all that wait and one at a time; the same robots, the same policies.

- A stand-in for a GPU sleeps as long as π0.5 takes, guided, on an RTX 4090: 97 ms a chunk by itself
  (arXiv 2506.07339), of which the denoising, 35 ms, is once for a batch. What is measured so is all
  that is around a policy. Batches on such a GPU were not measured: that encoding gains nothing by
  them is the careful guess.
- The demonstration policy computes; the replicas share this machine's cores, so that more of them
  are no more GPUs.
- A policy that takes no time: what everything else costs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asking import ask_often
from launched import ROOT
from local_fleet import LocalFleet, ray_venv
from results import keep, report
from served import HOST, Served, free_port

BENCH = Path(__file__).parent
DEMO = ROOT / "configs" / "policies" / "flow_demo" / "policy.yaml"
STAND_INS = {"stand-in": {"each_ms": 62, "together_ms": 35}, "nothing": {}}
MARK = f"RT_BENCH_FLEET={uuid.uuid4().hex}"
PORT = free_port()
pytestmark = pytest.mark.timeout(0)


class Load(NamedTuple):
    """Robots, and what of. at_once: each asks again as soon as it has its chunk."""

    policy: str
    robots: int
    at_once: bool = False


SHORT = (Load("stand-in", 8), Load("stand-in", 32, at_once=True))
LONG = (
    *(Load("stand-in", robots) for robots in (1, 8, 16, 32)),
    Load("stand-in", 32, at_once=True),
    Load("demo", 8, at_once=True),
    Load("nothing", 8, at_once=True),
)
Urls = Callable[[str], str]  # of a policy


@pytest.fixture(scope="module")
def policies(long: bool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Their YAMLs, of those that are asked."""
    folder = tmp_path_factory.mktemp("policies")
    for name, takes in STAND_INS.items():
        told = "".join(f", {key}: {ms}" for key, ms in takes.items())
        (folder / f"{name}.yaml").write_text(f'policy: {{type: "gpu_stand_in:GpuStandIn"{told}}}\n')
    paths = {name: str(folder / f"{name}.yaml") for name in STAND_INS} | {"demo": str(DEMO)}
    return {load.policy: paths[load.policy] for load in (LONG if long else SHORT)}


@pytest.fixture(scope="module")
def fleet(long: bool) -> Iterator[LocalFleet]:
    venv = ray_venv()
    if venv is None:
        pytest.skip("needs Ray: pip install -e '.[fleet]', or the venv of make test-fleet")
    with LocalFleet(venv, 2 if long else 1, (BENCH,), MARK) as started:
        yield started


@contextmanager
def alone(policies: dict[str, str], *flags: str) -> Iterator[Urls]:
    """A `python -m rt.serve` for each."""
    # One thread, as Ray gives its replicas.
    inside = ("env", MARK, f"PYTHONPATH={ROOT}:{BENCH}", "OMP_NUM_THREADS=1")
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(Served(Path(path), *flags, inside=inside)).port
            for name, path in policies.items()
        }
        yield lambda name: f"ws://{HOST}:{ports[name]}"


@pytest.mark.parametrize("batch", [1, 8])
def test_robots_and_one_server(  # type: ignore[no-untyped-def]
    benchmark, long: bool, policies: dict[str, str], batch: int
) -> None:
    if batch == 1 and not long:
        pytest.skip("is measured by make bench")
    server = "rt.serve, one at a time" if batch == 1 else "rt.serve"
    with alone(policies, f"--max_batch={batch}") as urls:
        benchmark.pedantic(measure, (server, urls, long), rounds=1)


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_robots_and_a_fleet(  # type: ignore[no-untyped-def]
    benchmark, long: bool, policies: dict[str, str], fleet: LocalFleet, replicas: int
) -> None:
    if replicas > 1 and not long:
        pytest.skip("is measured by make bench")
    fleet.serve(replicas, policies=policies, port=PORT)
    urls = f"ws://{HOST}:{PORT}/{{}}".format
    benchmark.pedantic(measure, (f"fleet, {replicas}", urls, long), rounds=1)


def measure(server: str, urls: Urls, long: bool) -> None:
    """Every load, one after the other."""
    for load in LONG if long else SHORT:
        seconds = (2.5 if load.at_once else 4.0) if long else 2.5
        asked = ask_often(urls(load.policy), load.robots, seconds, at_once=load.at_once, mark=MARK)
        figures = asked.figures() | load._asdict() | {"server": server}
        pace = "at once" if load.at_once else "as robots do"
        keep("fleet", **{f"{server}; {load.policy}; {pace}; {load.robots}": figures})
        report(f"{server}: {load.robots} robots ask {load.policy} {pace}", told(figures))
        assert "WRONG" not in figures["outcomes"]
        assert not load.at_once or set(figures["outcomes"]) == {"OK"}


def told(f: dict[str, Any]) -> str:
    """In a line."""
    if not f["chunks"]:  # too many robots
        return f"no chunk in time; {f['outcomes']}"
    return (
        f"{f['per_s']:.1f} chunks/s, p50 {f['p50_ms']:.0f}, p99 {f['p99_ms']:.0f} ms; "
        f"{f['outcomes']}; batches {f['batches']}; {f['cpu_ms']:.1f} ms of a core a chunk"
    )
