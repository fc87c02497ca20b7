"""A policy on another machine, and a network that does what networks do: the robot is told nothing
but small steps within its limits, executes its chunk to the end and holds, and goes on when there
is an answer again. Inference is one process throughout."""

from __future__ import annotations

import random
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from cable import cable
from launched import until
from playing import Fake, driving
from reliability import tell
from scale import Scale
from served import Served
from swinging import FLAGS as SWINGING
from swinging import HERE, Swinging, check_holds
from tick_log import executes

from rt.testing.network import BadNetwork, Weather

FLAGS = (
    *SWINGING,
    *("--set", "min_num_actions_executed=2"),  # a start has 14 rows for a chunk, on a busy machine
    *("--set", "robot.max_state_age_ms=20000"),  # a fake robot without a core is no question here
)
CALM = Weather(delay_ms=20, jitter_ms=10)
DEADLINE_MS = 1500
SILENT_S = 3.0  # of a partition, and of a server that is stopped: longer than the deadline


class Remote(NamedTuple):
    """A session, and how it reaches its policy."""

    swing: Swinging
    server: Served
    network: BadNetwork

    @property
    def inference(self) -> dict[str, Any]:
        """What it counted."""
        seen = self.swing.run.inspect()
        assert seen
        counted: dict[str, Any] = seen["inference"]
        return counted

    def lasts(self, seconds: float) -> None:
        """Let so much time pass, in ticks."""
        lasts(self.swing, seconds)

    def when_unanswered(self, before: Counter[str]) -> None:
        """Return once it was asked in vain, more often than before."""
        self.swing.run.when(
            "a request without an answer",
            lambda seen: (Counter(seen["inference"]["outcomes"]) - before).keys() - {"OK"},
        )


def lasts(swing: Swinging, seconds: float) -> None:
    """Let so much time pass, in ticks."""
    begin = swing.log.last
    end = int(begin["t_wake"]) + seconds * 1e9
    swing.log.when("time to pass", lambda tick: tick["t_wake"] >= end, after=begin)


# --- what the network does


def bad(weather: Weather) -> Callable[[Remote, random.Random], None]:
    """Have this weather for a while."""

    def act(remote: Remote, dice: random.Random) -> None:
        remote.network.change(weather)
        remote.lasts(dice.uniform(3, 6))

    return act


def partition(remote: Remote, dice: random.Random) -> None:
    remote.network.partition(SILENT_S)
    remote.lasts(SILENT_S)


def reset(remote: Remote, dice: random.Random) -> None:
    """At random moments, also while it connects again."""
    for _ in range(3):
        remote.network.reset()
        remote.lasts(dice.uniform(0.05, 1))


def killed(remote: Remote, dice: random.Random) -> None:
    """The server dies of a request, and is started again."""
    remote.swing.order("killed 1")
    assert remote.server.wait() == -signal.SIGKILL
    remote.lasts(dice.uniform(0, 2))
    remote.server.start()


def ended(remote: Remote, dice: random.Random) -> None:
    """In order, and started again."""
    remote.server.signal(signal.SIGTERM)
    assert remote.server.wait() == 0, remote.server.output
    remote.server.start()


def stopped(remote: Remote, dice: random.Random) -> None:
    """The server's machine hangs for a while: nothing is closed, nobody answers."""
    remote.server.signal(signal.SIGSTOP)
    remote.lasts(SILENT_S)
    remote.server.signal(signal.SIGCONT)


def late(remote: Remote, dice: random.Random) -> None:
    """Two answers, each after its deadline."""
    remote.swing.order(f"late 2 {DEADLINE_MS / 1e3 + dice.uniform(0.1, 1)}")
    until("both to be given", lambda: remote.swing.log.look() or remote.swing.obeyed)


class Trouble(NamedTuple):
    """One thing that goes wrong."""

    act: Callable[[Remote, random.Random], None]
    unanswered: bool = False  # what is asked meanwhile gets no answer, so that the chunk runs out


FAR = Weather(delay_ms=300, jitter_ms=60)
TROUBLES = {
    "20 ms and 10 of jitter each way": Trouble(bad(CALM)),
    "150 ms and 100 of jitter": Trouble(bad(Weather(delay_ms=150, jitter_ms=100))),
    "300 ms and 60 of jitter": Trouble(bad(FAR)),
    "two stalls a second": Trouble(bad(CALM._replace(stalls_per_s=2))),
    "10 Mbit/s": Trouble(bad(CALM._replace(rate_bit_s=10e6))),
    "partition of 3 s": Trouble(partition, unanswered=True),
    "resets": Trouble(reset),
    "server killed in a request": Trouble(killed, unanswered=True),
    "server ended and started": Trouble(ended, unanswered=True),
    "server stopped for 3 s": Trouble(stopped, unanswered=True),
    "answers after the deadline": Trouble(late, unanswered=True),
}
TELLING = ("300 ms and 60 of jitter", "partition of 3 s", "resets", "server killed in a request")


@pytest.fixture
def served_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a policy that swings, and takes `orders` from the file beside it."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    path, orders = tmp_path / "served.yaml", tmp_path / "orders"
    orders.touch()
    swings = {"type": "stand_ins.misbehaving:Misbehaving", "orders": str(orders)}
    model = {"component_config_paths": {"model": {"params": {}}}}
    path.write_text(yaml.safe_dump({"model": model, "policy": swings}))
    return path


@contextmanager
def swinging_far(fake: Fake, served_yaml: Path, url: str, **keys: str) -> Iterator[Swinging]:
    """A launch that drives the fake robot with what a server tells it."""
    asked = served_yaml.with_name("remote.yaml")
    asks = {"type": "remote_policy", "url": url, "deadline_ms": DEADLINE_MS, **keys}
    asked.write_text(yaml.safe_dump({"policy": asks}))
    with driving("remote", fake, "-P", str(asked), *FLAGS) as run:
        yield Swinging(run, fake, served_yaml.with_name("orders"), steady=True)


@contextmanager
def remote(fake: Fake, served_yaml: Path, seed: int) -> Iterator[Remote]:
    """The same across a calm network."""
    with Served(served_yaml) as server, BadNetwork(server.address, seed=seed) as network:
        url = f"ws://127.0.0.1:{network.port}"
        with swinging_far(fake, served_yaml, url, image_encoding="jpeg") as swing:
            network.change(CALM)
            yield Remote(swing, server, network)


def go_through(remote: Remote, trouble: Trouble, dice: random.Random) -> Counter[str]:
    """Have the trouble, and see that what must come of it does, and that it is over. Returns how
    many requests were answered, and how not."""
    swing = remote.swing
    before = swing.log.when("a row to be executed", executes)
    counted, pid = Counter(remote.inference["outcomes"]), swing.run.pid("inference")
    commands = swing.commands
    trouble.act(remote, dice)
    if trouble.unanswered:
        remote.when_unanswered(counted)
    newest, troubled = remote.inference["published"], swing.log.last
    swing.log.when(
        "a row of a newer chunk",
        lambda tick: executes(tick) and tick["chunk"] >= newest,
        after=troubled,
    )
    remote.network.change(CALM)
    assert swing.run.pid("inference") == pid, swing.run.output
    held = check_holds(swing.log.since(before))
    assert held or not trouble.unanswered
    assert swing.commands > commands, "holds are sent, too"
    swing.check()
    return Counter(remote.inference["outcomes"]) - counted


def drawn(dice: random.Random, kills: int) -> list[str]:
    """In any order: some, all, or all several times over."""
    if kills < 60:
        return dice.sample(TELLING, len(TELLING))
    names = [*TROUBLES] * min(kills // 60, 4)
    return dice.sample(names, len(names))


def test_whatever_the_network_does_the_robot_is_told_small_steps_within_its_limits(
    served_yaml: Path, scale: Scale, dice: random.Random
) -> None:
    names = drawn(dice, scale.kills)
    outcomes: Counter[str] = Counter()
    with Fake() as fake, remote(fake, served_yaml, dice.randrange(1 << 32)) as far:
        for name in names:
            outcomes += go_through(far, TROUBLES[name], dice)
        far.swing.end()
        commands, ticks = far.swing.commands, far.swing.log.ticks
        assert not ticks["not_finite"].any()
    answered = outcomes.pop("OK")
    unanswered = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    tell(
        "network",
        "a policy on another machine, across a bad network: "
        + ", ".join(f"{name} ({count})" for name, count in sorted(Counter(names).items())),
        f"{commands} commands at the robot's side, all within one slew step and the position "
        f"limits; {len(ticks)} ticks; {answered} requests answered, {unanswered}; held when the "
        "chunk ran out; one inference process throughout, and a newer chunk after each",
    )


@pytest.mark.parametrize(
    "words",
    [
        ("netem", "delay", "50ms", "20ms", "loss", "2%", "limit", "10000"),
        ("tbf", "rate", "10mbit", "burst", "32kb", "latency", "400ms"),
    ],
    ids=lambda words: words[0],
)
def test_a_bad_cable_of_the_kernels_is_no_different(
    served_yaml: Path, scale: Scale, words: tuple[str, ...]
) -> None:
    if scale.kills < 60:
        pytest.skip("half a minute: --scale bounded")
    key = served_yaml.with_name("key")
    key.write_text(secrets.token_urlsafe())
    with (
        Fake() as fake,
        cable(*words) as (address, inside),
        Served(served_yaml, "--api_key_file", str(key), host=address, inside=inside) as server,
        swinging_far(
            fake, served_yaml, f"ws://{address}:{server.port}", api_key_file=str(key)
        ) as swing,
    ):
        begin = swing.log.when("a row to be executed", executes)
        lasts(swing, 10)
        ticks = swing.log.since(begin)
        held = check_holds(ticks)
        swing.end()
        commands = swing.commands
    tell(
        "network",
        f"a policy in another network namespace, {' '.join(words)} in both directions",
        f"{commands} commands at the robot's side, all within one slew step and the position "
        f"limits; {np.ptp(ticks['chunk'])} chunks in {len(ticks)} ticks, of which "
        f"{int((ticks['hold'] > 0).sum())} held, for {', '.join(sorted(held)) or 'nothing'}",
    )
