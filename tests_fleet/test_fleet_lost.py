"""What dies of a fleet, and a fleet that is upgraded, while robots are driven by it: one is told
nothing but small steps within its limits, holds at most, and goes on; the others get chunks again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import clusters
import pytest
import yaml
from launched import until
from playing import Fake, driving
from remote import ask, remote
from served import free_port
from serving import chunk, connect_to, seen
from swinging import FLAGS as SWINGING
from swinging import Swinging, check_holds
from tick_log import executes, holds

from rt.records import Outcome

FLAGS = (
    *SWINGING,
    *("--set", "min_num_actions_executed=4"),  # a start has 12 rows for a chunk
    *("--set", "robot.max_state_age_ms=20000"),  # a fake robot without a core is no question here
)
pytestmark = pytest.mark.timeout(500)
LIGHTS = 3
PAUSE_S = 0.2
DEADLINE_MS = 1500


class Light(threading.Thread):
    """A robot without a body: it asks again and again, and notes what comes of it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._policy = remote(url, deadline_ms=DEADLINE_MS, seed=None)
        self._ended = threading.Event()
        self.seen: list[tuple[float, Outcome, str]] = []

    def run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            reply, words = ask(self._policy)
            self.seen.append((time.monotonic(), reply, words))

    def answered(self, since: float) -> list[float]:
        """When it got chunks."""
        return [t for t, reply, _ in self.seen if reply is Outcome.OK and t > since]

    def others(self, since: float) -> list[str]:
        """What else it got."""
        return [
            f"{r.name}: {words}" for t, r, words in self.seen if r is not Outcome.OK and t > since
        ]

    def end(self) -> None:
        self._ended.set()
        self.join()
        self._policy.close()


class Siege:
    """A robot and some lights, and the fleet that they hang on."""

    def __init__(self, nodes: clusters.Nodes, config: dict[str, Any], folder: Path) -> None:
        self.nodes, self.config, self.folder = nodes, config, folder
        self.lights: list[Light] = []
        self.swing: Swinging

    @property
    def url(self) -> str:
        (app,) = self.config["applications"]
        return f"ws://127.0.0.1:{app['args']['port']}"

    @contextmanager
    def robots(self) -> Iterator[None]:
        asked, orders = self.folder / "remote.yaml", self.folder / "orders"
        asks = {"type": "remote_policy", "url": f"{self.url}/swings", "deadline_ms": DEADLINE_MS}
        asked.write_text(yaml.safe_dump({"policy": asks}))
        with ExitStack() as stack:
            fake = stack.enter_context(Fake())
            run = stack.enter_context(driving("fleet", fake, "-P", str(asked), *FLAGS))
            self.swing = Swinging(run, fake, orders, steady=True)
            for _ in range(LIGHTS):
                light = Light(f"{self.url}/swings")
                light.start()
                stack.callback(light.end)
                self.lights.append(light)
            yield

    def goes_through(self, trouble: Callable[[], None]) -> Counter[str]:
        """Have it, and see that all of them go on. Returns what they got that was no chunk."""
        swing, run = self.swing, self.swing.run
        before, began = swing.log.when("a row to be executed", executes), time.monotonic()
        counted, pid = self._outcomes(), run.pid("inference")
        with ThreadPoolExecutor(1) as thread:
            going = thread.submit(trouble)
            until("it to be over", lambda: swing.log.look() or going.done(), clusters.DEPLOYED_S)
            going.result()
        over = time.monotonic()
        newest, troubled = self._inference()["published"], swing.log.last
        swing.log.when(
            "a row of a newer chunk",
            lambda tick: executes(tick) and tick["chunk"] > newest,
            after=troubled,
        )
        for light in self.lights:
            until("each to be answered", lambda light=light: light.answered(over))
        assert run.pid("inference") == pid, run.output
        ticks = swing.log.since(before)
        check_holds(ticks)
        swing.check()
        replies = self._outcomes() - counted
        del replies["OK"]
        gaps = [gap(light.answered(0), began) for light in self.lights]
        others = Counter(words for light in self.lights for words in light.others(began))
        print(f"robot: {replies or 'no other replies'}, {len(ticks)} ticks, held {holds(ticks)}")
        print(f"lights: longest without a chunk {max(gaps):.2f} s, others {dict(others)}")
        return replies + Counter(words.partition(":")[0] for words in others.elements())

    def _inference(self) -> dict[str, Any]:
        seen = self.swing.run.inspect()
        assert seen
        counted: dict[str, Any] = seen["inference"]
        return counted

    def _outcomes(self) -> Counter[str]:
        return Counter(self._inference()["outcomes"])


def gap(answered: list[float], since: float) -> float:
    """The longest time between two answers of which the second came after `since`."""
    return max((b - a for a, b in pairwise(answered) if b > since), default=0.0)


@pytest.fixture(scope="module")
def siege(nodes: clusters.Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    folder = tmp_path_factory.mktemp("siege")
    (folder / "orders").touch()
    swings = {
        "model": {"component_config_paths": {"model": {"params": {}}}},
        "policy": {"type": "stand_ins.misbehaving:Misbehaving", "orders": str(folder / "orders")},
    }
    slow = {"policy": {"type": "slow:Slow", "seconds": 1.2, "pid_file": "pid"}}
    for name, told in (("swings", swings), ("slow", slow)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(told))
    policies = {name: str(folder / f"{name}.yaml") for name in ("swings", "slow")}
    args = {"policies": policies, "port": free_port(), "version": 1}
    made = Siege(nodes, clusters.config(args, {"num_replicas": 2}), folder)
    nodes.deploy(made.config)
    with made.robots():
        yield made
        made.swing.end()


def computing(siege: Siege, lose: Callable[[int], None]) -> None:
    """Lose what computes a request, which is answered all the same: by another."""
    pid_file = siege.folder / "pid"
    pid_file.unlink(missing_ok=True)
    with connect_to(f"{siege.url}/slow") as client:
        client.recv()
        client.send(seen(0.5))
        victim = int(until("it computes", lambda: pid_file.exists() and pid_file.read_text()))
        assert victim in siege.nodes.replicas("Model")
        lose(victim)
        assert (chunk(client.recv(timeout=60)).actions == 0.5).all()
    assert int(pid_file.read_text()) != victim


def replaced(siege: Siege, deployment: str, before: list[int]) -> None:
    """Return once there are as many as before, all of them warm, and not all the same."""

    def look() -> bool:
        alive = {*siege.nodes.replicas(deployment)}
        warm = siege.nodes.running(deployment)  # which learns late who has died
        return len(alive) == warm == len(before) and alive != {*before}

    until("others", look, clusters.DEPLOYED_S)


def test_a_model_dies_while_it_computes(siege: Siege) -> None:
    models = siege.nodes.replicas("Model")
    others = siege.goes_through(lambda: computing(siege, siege.nodes.kill))
    assert others.keys() <= {"TOO_LATE"}
    replaced(siege, "Model", models)


def test_a_node_dies_while_it_computes(siege: Siege) -> None:
    models = siege.nodes.replicas("Model")
    siege.goes_through(lambda: computing(siege, siege.nodes.kill_node))
    siege.nodes.add_node()
    replaced(siege, "Model", models)


def test_fronts_die_one_after_the_other(siege: Siege) -> None:
    fronts = siege.nodes.replicas("Front")
    assert len(fronts) == 2

    def kill() -> None:
        siege.nodes.kill(fronts[0])
        replaced(siege, "Front", fronts)
        siege.nodes.kill(fronts[1])

    others = siege.goes_through(kill)
    assert {"LOST", "UNREACHABLE"} & others.keys()
    until("others", lambda: siege.nodes.running("Front") == 2, clusters.DEPLOYED_S)


def test_an_upgrade_loses_no_robot(siege: Siege) -> None:
    before = siege.nodes.replicas("Model") + siege.nodes.replicas("Front")
    (app,) = siege.config["applications"]
    app["args"]["version"] = 2
    siege.goes_through(lambda: siege.nodes.deploy(siege.config))
    until("the old ones to end", lambda: not {*before} & {*siege.nodes.replicas("")})
