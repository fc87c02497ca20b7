"""openpi's own client, as it comes from PyPI, talks to our server unchanged.

`make test-openpi` runs these; OPENPI_PYTHON names the interpreter of another venv that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launched import ROOT
from serving import OFFER, A, Batching, H, Scripted, Serving, engine_of

from rt.infer import build_policy
from rt.infer.normalization import Normalizer
from rt.serve.engine import Keys
from rt.serve.load import load_engine
from rt.wire.codec import encode

PYTHON = Path(os.environ.get("OPENPI_PYTHON", ROOT / ".venv-openpi/bin/python"))
SCRIPT = Path(__file__).with_name("stock_client.py")
COMPARE = ROOT / "configs/policies/compare"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs openpi-client in a venv of its own: make test-openpi"
)


class Client:
    """A process with openpi's client. metadata: what it was greeted with."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.metadata = self._read()

    def infer(self, observation: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told(observation)) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        return json.loads(line)


def told(value: Any) -> Any:
    """An observation in the script's words."""
    if isinstance(value, dict):
        return {key: told(inner) for key, inner in value.items()}
    if not isinstance(value, np.ndarray | np.generic):
        return value
    if value.ndim and not value.any():
        return {"zeros": value.shape, "dtype": str(value.dtype)}
    return {"array": value.tolist(), "dtype": str(value.dtype)}


@contextmanager
def client(serving: Serving, *key: str) -> Iterator[Client]:
    # Without our PYTHONPATH: it sees nothing of this project.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.Popen(
        [str(PYTHON), str(SCRIPT), f"ws://127.0.0.1:{serving.port}", *key],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Client(process)
    finally:
        process.kill()
        process.communicate()


def actions(answer: Any) -> np.ndarray[Any, Any]:
    assert "actions" in answer, answer
    data = np.frombuffer(bytes.fromhex(answer["actions"]), answer["dtype"])
    return data.reshape(answer["shape"])


OBSERVATION = {
    "proprio": np.full(A, 0.5),
    "head": np.zeros((224, 224, 3), np.uint8),
    "prompt": "lift it",
}


def test_it_is_greeted_and_answered_and_its_timing_is_there() -> None:
    policy = Scripted()
    with Serving(policy) as serving, client(serving) as stock:
        assert stock.metadata["rt"]["policy"] == OFFER.policy
        answer = stock.infer(OBSERVATION)
        chunk = actions(answer)
        assert (chunk.shape, chunk.dtype) == ((H, A), np.float32)
        assert (chunk == 0.5).all()
        assert answer["policy_timing"]["infer_ms"] >= 0
        assert answer["server_timing"].keys() == {"infer_ms", "queue_ms", "batch"}
    (asked,) = policy.asked
    assert asked["head"].shape == (1, 3, 224, 224)
    assert asked["prompt"] == "lift it"


def test_its_messages_are_ours_to_the_byte() -> None:
    observation = OBSERVATION | {
        "nested": {"state": np.arange(6, dtype=np.float32).reshape(2, 3), "on": np.bool_(True)},
        "count": np.int64(3),
        "list": [1, 2.5, "x", None],
    }
    with Serving(Scripted()) as serving, client(serving) as stock:
        packed = stock.infer(observation)["packed"]
    assert bytes.fromhex(packed) == encode(observation)


def test_what_is_wrong_is_told_and_the_next_one_is_answered() -> None:
    with Serving(Batching()) as serving, client(serving) as stock:
        refused = stock.infer({"proprio": np.zeros(A + 1)})
        assert "proprio: expected shape (any, 2), got (1, 3)" in refused["error"]
        assert (actions(stock.infer(OBSERVATION)) == 0.5).all()


def test_with_its_key_it_is_let_in() -> None:
    with Serving(Scripted(), key="k" * 20) as serving, client(serving, "k" * 20) as stock:
        assert (actions(stock.infer(OBSERVATION)) == 0.5).all()


@pytest.mark.parametrize(
    ("keys", "observation"),
    [
        (  # LIBERO's
            Keys({"top": "observation/image"}, "observation/state"),
            {
                "observation/state": np.full(A, 0.5),
                "observation/image": np.zeros((224, 224, 3), np.uint8),
            },
        ),
        (  # ALOHA's
            Keys({"top": "images.cam_high"}, "state"),
            {"state": np.full(A, 0.5), "images": {"cam_high": np.zeros((3, 224, 224), np.uint8)}},
        ),
        (  # the model's own
            Keys({"top": "base_0_rgb"}, "state"),
            {
                "state": np.full(A, 0.5),
                "image": {"base_0_rgb": np.zeros((224, 224, 3), np.uint8)},
                "image_mask": {"base_0_rgb": np.bool_(True)},
            },
        ),
    ],
    ids=["libero", "aloha", "model"],
)
def test_an_openpi_checkpoint_is_asked_under_openpis_own_keys(
    keys: Keys, observation: dict[str, Any]
) -> None:
    policy = Scripted()
    with Serving(engine_of(policy, keys=keys)) as serving, client(serving) as stock:
        assert (actions(stock.infer(observation | {"prompt": "x"})) == 0.5).all()
    assert policy.asked[0]["top"].shape == (1, 3, 224, 224)


def test_a_chunk_is_the_one_that_the_policy_gives(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    yaml = (COMPARE / "policy.yaml").read_text()
    for key in ("checkpoints", "norm_stats.json"):
        yaml = yaml.replace(f": {key}", f": {COMPARE / key}")
    path.write_text(yaml.replace("type: flow", "type: flow\n  seed: 3"))
    state = np.random.default_rng(0).standard_normal(6)
    ours = build_policy(path).predict(
        {"proprio": state[None].astype(np.float32)},
        Normalizer.load(COMPARE / "norm_stats.json", 6, 2),
    )
    with Serving(load_engine(path, "cpu")) as serving, client(serving) as stock:
        assert actions(stock.infer({"proprio": state})).tobytes() == ours.tobytes()
