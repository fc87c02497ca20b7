"""What a robot gets of a fleet."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import clusters
import msgspec
import numpy as np
import pytest
import yaml
from launched import ROOT, until
from ray import serve
from remote import remote
from served import free_port
from serving import chunk, connect_to, get, seen, waiting_yaml
from websockets.exceptions import InvalidStatus

from rt.errors import NoAnswerError
from rt.infer.normalization import Normalizer
from rt.infer.policy import GuidanceOptions
from rt.serve.engine import Engine
from rt.serve.load import load_engine
from rt.wire.offer import ANOTHER_POLICY, write_offer
from rt.wire.protocol import REPLACED

COMPARE = ROOT / "configs/policies/compare"
KEY = "k" * 20
MAX_BATCH = 4


def seeded(folder: Path) -> Path:
    """rt.compare's policy with clean prefixes, which draws the same noise in every process."""
    told = yaml.safe_load((COMPARE / "prefix.yaml").read_text())
    told["policy"]["seed"] = 3
    for key in ("checkpoint_path", "norm_stats_path"):
        told[key] = str(COMPARE / told[key])
    path = folder / "seeded.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def slow(folder: Path, **keywords: float) -> Path:
    path = folder / f"slow{len([*folder.iterdir()])}.yaml"
    path.write_text(yaml.safe_dump({"policy": {"type": "slow:Slow", **keywords}}))
    return path


class Fleet:
    """One Model, which has room for three of the five policies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "warm").touch()
        key = folder / "key"
        key.write_text(KEY)
        self.policies = {
            "seeded": seeded(folder),
            "slow": slow(folder, seconds=0.2),
            "twice": slow(folder, seconds=0.2, factor=2.0),
            "waiting": waiting_yaml(folder),
            "weighty": slow(folder, seconds=0.0, load_s=2.5),
        }
        self.port = free_port()
        self.args = {
            "policies": {name: str(path) for name, path in self.policies.items()},
            "port": self.port,
            "max_batch": MAX_BATCH,
            "api_key_file": str(key),
        }
        self.key_file = str(key)

    def url(self, path: str = "") -> str:
        return f"ws://127.0.0.1:{self.port}/{path}"

    def connect(self, path: str, key: str = KEY) -> Any:
        headers = {"Authorization": f"Api-Key {key}"}
        return connect_to(self.url(path), additional_headers=headers)


@pytest.fixture(scope="module")
def deployed(nodes: clusters.Nodes, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    nodes.deploy(clusters.config(made.args))
    return made


def test_a_chunk_is_the_local_one_bit_for_bit(deployed: Fleet) -> None:
    here: Engine = load_engine(deployed.policies["seeded"], "cpu")
    here.warm_up(MAX_BATCH)
    policy: Any = here._policy
    normalizer = Normalizer.load(COMPARE / "norm_stats.json", 6, 2)
    there = remote(deployed.url("seeded"), api_key_file=deployed.key_file)
    random = np.random.default_rng(0)
    leftover = random.standard_normal((16, 2)).astype(np.float32)
    for mode in ("predict", "rtc", "prefix", "rtc", "predict"):
        asked: dict[str, Any] = {"proprio": random.standard_normal((1, 6)).astype(np.float32)}
        if mode != "predict":
            guidance = GuidanceOptions(prefix=mode == "prefix", schedule="linear")
            asked |= {"prev_action": leftover, "est_delay": 3, "guidance": guidance}
        ours = (
            policy.guided_inference(dict(asked), normalizer, 5, 16)
            if mode != "predict"
            else (policy.predict(dict(asked), normalizer))
        )
        theirs = there.guided_inference(dict(asked), Normalizer.identity(), 5, 16)
        assert theirs.tobytes() == ours.tobytes(), mode
    there.close()


def test_each_path_has_its_policy_and_another_none(deployed: Fleet) -> None:
    for path, factor in (("slow", 1), ("twice", 2)):
        with deployed.connect(path) as client:
            client.recv()
            client.send(seen(0.5))
            assert (chunk(client.recv(timeout=60)).actions == np.float32(factor * 0.5)).all()
    for path in ("", "slower", "slow/"):
        with pytest.raises(InvalidStatus) as refused, deployed.connect(path):
            pass
        assert refused.value.response.status_code == 404
        expected = f"no policy is served at /{path}: expected one of /seeded, /slow, /twice, "
        expected += "/waiting, /weighty\n"
        assert refused.value.response.body.decode() == expected
    with pytest.raises(NoAnswerError, match="expected one of /seeded, /slow, /twice"):
        remote(deployed.url("slower"), api_key_file=deployed.key_file, connect_timeout_s=1)


def test_a_policy_that_takes_longer_to_load_than_anybody_waits_is_served_then(
    deployed: Fleet,
) -> None:
    refused = []

    def let_in() -> bool:
        try:
            with deployed.connect("weighty") as client:
                client.recv()
                client.send(seen(0.5))
                return bool(chunk(client.recv(timeout=60)))
        except InvalidStatus as error:
            refused.append(error.response.status_code)
            return False

    until("it is served", let_in)
    assert set(refused) == {503}


def test_who_has_not_the_key_is_not_let_in_and_health_needs_none(deployed: Fleet) -> None:
    with pytest.raises(InvalidStatus) as refused, deployed.connect("slow", "another key than that"):
        pass
    assert refused.value.response.status_code == 401
    assert get(deployed.port, "/healthz") == (200, "OK\n")


def test_robots_are_computed_together_but_not_of_two_policies(deployed: Fleet) -> None:
    sizes: dict[str, list[int]] = {"slow": [], "twice": []}

    def robot(path: str, state: float) -> None:
        with deployed.connect(path) as client:
            client.recv()
            for _ in range(4):
                client.send(seen(state))
                result = chunk(client.recv(timeout=60))
                factor = 2 if path == "twice" else 1
                assert (result.actions == np.float32(factor * state)).all()
                sizes[path].append(result.batch)

    everybody = [
        threading.Thread(target=robot, args=(path, state)) for path in sizes for state in range(4)
    ]
    for one in everybody:
        one.start()
    for one in everybody:
        one.join(60)
    for path in sizes:
        assert len(sizes[path]) == 16, path
        assert sum(size > 1 for size in sizes[path]) >= 8, sizes


def test_a_newer_observation_replaces_one_that_waits(deployed: Fleet) -> None:
    # Its Model had no room for this policy at first, and gives another one up.
    with deployed.connect("waiting") as other, deployed.connect("waiting") as client:
        other.recv()
        client.recv()
        other.send(seen(1))
        until("it computes", (deployed.folder / "computing").exists)
        client.send(seen(2))
        client.send(seen(3))
        assert client.recv(timeout=60) == REPLACED
        (deployed.folder / "done").touch()
        assert (chunk(client.recv(timeout=60)).actions == 3).all()
        assert (chunk(other.recv(timeout=60)).actions == 1).all()


def test_a_chunk_is_of_a_policy_like_the_one_that_was_offered(deployed: Fleet) -> None:
    model = serve.get_deployment_handle("Model", "rt").options(multiplexed_model_id="seeded")
    offer = model.offer.remote().result()
    request = seen(0.5)
    told = load_engine(deployed.policies["seeded"], "cpu").offer
    told = msgspec.structs.replace(told, policy="seeded")  # whatever its file is called
    assert write_offer(told) == offer

    def ask_as(**changes: Any) -> Any:
        changed = write_offer(msgspec.structs.replace(told, **changes))
        return model.ask.remote("robot", request, changed).result()

    assert ask_as(version="0") != ANOTHER_POLICY
    others = ({"dims": {"state_dim": 7}}, {"trained_for": None}, {"statistics": None})
    for changes in ({"policy": "slow"}, *others):
        assert ask_as(**changes) == ANOTHER_POLICY
