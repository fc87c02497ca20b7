"""A policy server in a thread of the test, or in a process of its own, and policies to serve."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import numpy as np
from launched import PATIENCE_S, ROOT, until
from websockets.sync.client import ClientConnection, connect

from rt.infer.normalization import Normalizer
from rt.serve.desk import Desk
from rt.serve.engine import Engine, Keys
from rt.serve.front import Front
from rt.wire.codec import encode
from rt.wire.offer import MAX_MESSAGE_BYTES, Offer, write_offer
from rt.wire.protocol import Result, read_result

H, A = 4, 2
OFFER = Offer(
    policy="a/policy.yaml",
    policy_type="scripted",
    modes=("naive", "rtc"),
    dims={"action_dim": A, "action_horizon": H, "state_dim": A},
)


class Scripted:
    """Its chunk is the newest state in every row. A state below 0 has it raise; while it is held
    it computes on."""

    def __init__(self, components: dict[str, Any] | None = None) -> None:
        self.latency = {"encode_ns": 1_000_000, "denoise_ns": 2_000_000}
        self.asked: list[dict[str, Any]] = []
        self._go = threading.Event()
        self._go.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        self._go.clear()
        try:
            yield
        finally:
            self._go.set()

    def predict(self, input_data: dict[str, Any], normalizer: Normalizer) -> Any:
        self.asked.append(input_data)
        assert self._go.wait(PATIENCE_S)
        state = input_data["proprio"][-1]
        if state[0] < 0:
            raise ZeroDivisionError("a secret of the server's")
        return np.tile(state, (H, 1)).astype(np.float32)

    def guided_inference(
        self, input_data: dict[str, Any], normalizer: Normalizer, s: int, horizon: int
    ) -> Any:
        return self.predict(input_data, normalizer)

    def warmup(self) -> None:
        pass

    def freeze_all_model_params(self) -> None:
        pass


class Batching(Scripted):
    """Takes several at once."""

    def __init__(self, components: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def infer_many(
        self, asks: Sequence[tuple[dict[str, Any], int]], normalizer: Normalizer
    ) -> list[Any]:
        self.sizes.append(len(asks))
        answers: list[Any] = []
        for input_data, _ in asks:
            try:
                answers.append(self.predict(input_data, normalizer))
            except ZeroDivisionError as error:
                answers.append(error)
        return answers


class Stateful(Scripted):
    """Carries something from chunk to chunk."""

    resets = 0

    def reset(self) -> None:
        self.resets += 1


class Waiting(Scripted):
    """Of a process of its own: is warm, and computes, once files are there. Keyword: folder."""

    def __init__(self, components: dict[str, Any], *, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)

    def warmup(self) -> None:
        until("warm", (self._folder / "warm").exists)

    def predict(self, input_data: dict[str, Any], normalizer: Normalizer) -> Any:
        (self._folder / "computing").touch()
        until("done", (self._folder / "done").exists)
        return super().predict(input_data, normalizer)


def waiting_yaml(folder: Path) -> Path:
    """A policy YAML of `Waiting`, that looks for its files beside it."""
    path = folder / "policy.yaml"
    path.write_text(
        "model: {component_config_paths: {none: {class: torch.nn.Identity}}}\n"
        f"policy: {{type: 'serving:Waiting', folder: {folder}}}\n"
    )
    return path


def engine_of(policy: Any, offer: Offer = OFFER, keys: Keys | None = None) -> Engine:
    return Engine(policy, Normalizer.identity(), offer, keys)


class Serving:
    """A desk and a front around a policy, on loopback."""

    def __init__(self, policy: Any, **front: Any) -> None:
        """policy: or an engine. front: what else a Front is given."""
        self.policy = policy
        self.engine = policy if isinstance(policy, Engine) else engine_of(policy)
        self._options = front
        self._ports: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        with ThreadPoolExecutor(1) as thread:
            most = 8 if self.engine.batches else 1
            self.desk = Desk(self.engine.answer, most, thread)
            alone = self.engine.stateful
            offer = write_offer(self.engine.offer)
            self.front = Front(self.desk, offer, **self._options, alone=alone)
            self._ports.put(await self.front.open(host="127.0.0.1", port=0))
            await self._end.wait()
            await self.desk.close("it ends")
            await self.front.close()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def connect(self, **options: Any) -> ClientConnection:
        """Use as a context manager. Its first frame, the offer, has not been read yet."""
        return connect_to(self.url, **options)

    @contextmanager
    def greeted(self, count: int) -> Iterator[list[ClientConnection]]:
        """So many clients, which have read the offer."""
        with ExitStack() as stack:
            clients = [stack.enter_context(self.connect()) for _ in range(count)]
            for client in clients:
                client.recv()
            yield clients

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        return get(self.port, path, **headers)

    def waiting(self) -> int:
        return len(self.desk._waiting)

    def clients(self) -> int:
        return len(self.front._replies)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._ports.get(timeout=PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def connect_to(url: str, **options: Any) -> ClientConnection:
    given: dict[str, Any] = {"compression": None, "max_size": MAX_MESSAGE_BYTES, "proxy": None}
    return connect(url, **(given | options))


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def seen(state: float = 0.0, **more: Any) -> bytes:
    """A request with that state."""
    return encode({"protocol": 1, "proprio": np.full((1, A), state, np.float32), **more})


def chunk(reply: bytes | str) -> Result:
    """What a server gave; fails for a sentence."""
    assert isinstance(reply, bytes), reply
    return read_result(reply, (None, None))


def answered(client: ClientConnection, state: float = 0.5) -> None:
    """A request of its own is answered, as is right."""
    client.send(seen(state))
    assert (chunk(client.recv(timeout=PATIENCE_S)).actions == np.float32(state)).all()


def upgrade(key: str) -> bytes:
    """What asks for a WebSocket. key: 16 bytes in base64."""
    return (
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def serve_process(*flags: str) -> subprocess.Popen[str]:
    """`python -m rt.serve …`, which finds the tests' policies."""
    paths = [str(ROOT), str(ROOT / "tests")]
    return subprocess.Popen(
        [sys.executable, "-m", "rt.serve", *flags],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
