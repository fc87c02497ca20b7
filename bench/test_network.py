"""The simulated IGRIS_B with its policy on another machine, across bad networks: rtc beside
naive and sequential. Whole sessions, in real time, the same scenes for each."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from launched import ROOT, Launched, until
from numpy.typing import NDArray
from results import keep, report
from served import Served
from tick_log import holds

from rt.compare.metrics import wilson
from rt.config import Config
from rt.delays import delays
from rt.follow import Followed
from rt.records import Phase
from rt.session import Session
from rt.testing.network import BadNetwork, Weather

sys.path.insert(0, str(ROOT / "tools"))

from compare_live import episodes

POLICY = ROOT / "configs" / "policies" / "flow_demo" / "policy.yaml"
MODES = ("rtc", "naive", "sequential")
EVERY = ("--set", "params.policy_update_period=25")  # sequential plans as often as the others
ROUNDING = 1e-9  # of a share
SEED = 7


class Far(NamedTuple):
    """Where the policy is."""

    server: Served
    network: BadNetwork


def nothing(far: Far) -> None:
    """The weather is all there is."""


def partition(far: Far) -> None:
    far.network.partition(3.0)


def reset(far: Far) -> None:
    far.network.reset()


def kill(far: Far) -> None:
    """The server, once a request is on its way to it; it is started again at once."""
    before = far.network.carried[0]
    until("a request", lambda: far.network.carried[0] > before)
    far.server.signal(signal.SIGKILL)
    far.server.wait()
    far.server.start()


class Condition(NamedTuple):
    """A network, what goes wrong in it, and how often."""

    weather: Weather = Weather()
    images: str = "raw"
    trouble: Callable[[Far], None] = nothing
    every_s: float = 2.0


CALM = Weather(delay_ms=20, jitter_ms=10)
CONDITIONS = {
    "none": Condition(),
    "20 ms": Condition(CALM),
    "100 ms": Condition(Weather(delay_ms=100, jitter_ms=30)),
    "300 ms": Condition(Weather(delay_ms=300, jitter_ms=60)),
    "stalls": Condition(CALM._replace(stalls_per_s=1)),
    "10 Mbit/s, raw": Condition(CALM._replace(rate_bit_s=10e6)),
    "10 Mbit/s, JPEG": Condition(CALM._replace(rate_bit_s=10e6), images="jpeg"),
    "partition": Condition(CALM, trouble=partition, every_s=8),
    "resets": Condition(CALM, trouble=reset),
    "server killed": Condition(CALM, trouble=kill, every_s=12),
}
SHORT = ("20 ms", "rtc")


class Watched(NamedTuple):
    """Of one run."""

    ticks: NDArray[Any]  # (N,) tick records, oldest first
    chunks: dict[int, NDArray[Any]]  # by ring index
    config: Config
    inference: dict[str, Any]  # its counters
    sent: int  # bytes, to the server
    missed: int  # tick records that were overwritten before they were read


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served(POLICY) as served:
        yield served


@contextmanager
def across(server: Served, condition: Condition, mode: str, folder: Path) -> Iterator[Any]:
    """A session whose policy is there, and the network between."""
    asked = folder / "remote.yaml"
    with BadNetwork(server.address, condition.weather, seed=SEED) as network:
        url = f"ws://127.0.0.1:{network.port}"
        asks = {"type": "remote_policy", "url": url, "image_encoding": condition.images}
        asked.write_text(yaml.safe_dump({"policy": asks}))
        flags = ("-P", str(asked), "--inference_algorithm", mode, *EVERY)
        with Launched("network", *flags) as run:
            yield run, network
            assert run.stop() == 0, run.output


def watch(server: Served, condition: Condition, mode: str, count: int, folder: Path) -> Watched:
    """Until so many episodes have ended."""
    with across(server, condition, mode, folder) as (run, network):
        run.when_chunks(1)
        session = Session(run.session)
        followed = Followed(session)
        while len(list(episodes(ticks := followed.follow(condition.every_s)))) < count:
            assert run.process.poll() is None, run.output
            condition.trouble(Far(server, network))
        seen = run.inspect()
        return Watched(
            ticks,
            followed.published,
            session.config(),
            seen["inference"],
            network.carried[0],
            followed.statistics.missed,
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_robot_reaches_across_a_bad_network(  # type: ignore[no-untyped-def]
    name: str, mode: str, long: bool, benchmark, server: Served, tmp_path: Path
) -> None:
    if not long and (name, mode) != SHORT:
        pytest.skip("is measured by make bench")
    count = 8 if long else 2
    arguments = (server, CONDITIONS[name], mode, count, tmp_path)
    seen = benchmark.pedantic(watch, arguments, rounds=1)
    figures = measured(seen, count)
    keep("network", **{f"{name}; {mode}": figures | {"condition": name, "mode": mode}})
    report(f"across a network, {name}, {mode}", told(figures))
    assert seen.missed == 0
    assert figures["step_of_limit"] <= 1 + ROUNDING
    assert not seen.ticks["not_finite"].any()


def measured(seen: Watched, count: int) -> dict[str, Any]:
    """Of the first `count` episodes; medians over them, or over all chunks."""
    ended = list(episodes(seen.ticks))[:count]
    success = wilson(sum(e.success for e in ended), count)
    ran = seen.ticks[seen.ticks["phase"] == Phase.RUN]
    delayed = delays(seen.config, seen.ticks, seen.chunks)
    steps = np.abs(np.diff(seen.ticks["command"], axis=0)) / seen.config.max_delta_rad_per_tick
    chunks = seen.chunks.values()
    outcomes = seen.inference["outcomes"]
    return {
        "episodes": count,
        "success": success._asdict(),
        "seconds": float(np.median([e.seconds for e in ended])),
        "standing_s": float(np.median([e.standing_s for e in ended])),
        "d_planned": spread([d.planned for d in delayed if d.planned is not None]),
        "d_counted": spread([d.counted for d in delayed]),
        "late": sum(d.late for d in delayed),
        "delayed": len(delayed),
        "holds": dict(holds(ran)),
        "ticks": len(ran),
        "step_of_limit": float(np.nanmax(steps)),
        "network_ms": spread([int(c["network_ns"]) / 1e6 for c in chunks]),
        "network_share": float(np.median([_network_share(c) for c in chunks])),
        "outcomes": outcomes,
        "request_kb": seen.sent / sum(outcomes.values()) / 1e3,
    }


def _network_share(chunk: Any) -> float:
    """Of the time that it took from its observation to its publication."""
    return int(chunk["network_ns"]) / int(chunk["t_publish"] - chunk["t_start"])


def spread(values: list[Any]) -> list[float] | None:
    """The median, and the largest; None of nothing."""
    return [float(np.median(values)), float(max(values))] if values else None


def told(f: dict[str, Any]) -> str:
    """In a line."""
    success = f["success"]
    return (
        f"{f['episodes']} episodes, success {success['mean']:.0%} ({success['low']:.0%} to "
        f"{success['high']:.0%}), {f['seconds']:.1f} s, of which standing {f['standing_s']:.2f}; d "
        f"planned, counted (median, most) {f['d_planned']}, {f['d_counted']}, {f['late']} of "
        f"{f['delayed']} late; held {f['holds']} of {f['ticks']} ticks; largest step "
        f"{f['step_of_limit']:.2f} of the limit; network {f['network_share']:.0%} of a chunk, ms "
        f"{f['network_ms']}; {f['request_kb']:.0f} kB a request; {f['outcomes']}"
    )
