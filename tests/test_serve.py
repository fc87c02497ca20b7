"""`python -m rt.serve`: what a robot gets of it, with others beside it."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from launched import ROOT, until
from served import certificate, free_port
from serving import (
    OFFER,
    PATIENCE_S,
    A,
    Batching,
    H,
    Scripted,
    Serving,
    Stateful,
    answered,
    chunk,
    connect_to,
    engine_of,
    get,
    seen,
    serve_process,
    waiting_yaml,
)
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection

from rt.infer.affine import IDENTITY
from rt.infer.normalization import Normalizer
from rt.infer.policy import GuidanceOptions
from rt.serve.desk import Asked, Desk
from rt.serve.engine import Keys
from rt.serve.front import Front
from rt.serve.load import load_engine
from rt.wire.codec import decode, encode
from rt.wire.images import to_jpeg
from rt.wire.offer import read_offer
from rt.wire.openpi import openpi_observation
from rt.wire.protocol import REPLACED, Guidance, Request, write_request

COMPARE = ROOT / "configs/policies/compare"


@pytest.fixture
def held() -> Iterator[tuple[Serving, ClientConnection]]:
    """A server that computes the request of a client, and does not get on with it."""
    policy = Batching()
    with Serving(policy) as serving, policy.held(), serving.connect() as client:
        client.recv()
        client.send(seen(1))
        until("it computes", lambda: policy.asked)
        yield serving, client
        policy._go.set()


def seeded(folder: Path, **changes: Any) -> Path:
    """rt.compare's policy with clean prefixes, which draws the same noise in every process."""
    content = yaml.safe_load((COMPARE / "prefix.yaml").read_text()) | changes
    content["policy"]["seed"] = 3
    for key in ("checkpoint_path", "norm_stats_path"):
        content[key] = str(COMPARE / content[key])
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_offer_says_what_a_robot_has_to_know(tmp_path: Path) -> None:
    offer = load_engine(seeded(tmp_path), "cpu").offer
    assert offer.policy == f"{tmp_path.name}/policy.yaml"
    assert (offer.policy_type, offer.units, offer.trained_for) == ("flow", "rad", ("sim",))
    assert "prefix" in offer.modes
    assert offer.dims == {"state_dim": 6, "action_dim": 2, "action_horizon": 16}
    normalizer = Normalizer.load(COMPARE / "norm_stats.json", 6, 2)
    for told, used in (
        (offer.statistics.state, normalizer.state),
        (offer.statistics.action, normalizer.action),
    ):
        assert (told.offset, told.scale) == (used.offset.tolist(), used.scale.tolist())
    assert offer.statistics.delta is None
    relative = load_engine(seeded(tmp_path, delta_actions=[True, False]), "cpu")
    assert relative.offer.statistics.delta == [True, False]
    assert relative._normalizer.delta.tolist() == [True, False]


def test_a_policy_without_statistics_offers_none() -> None:
    engine = load_engine(ROOT / "configs/policies/sway/policy.yaml", "cpu")
    assert engine.offer.statistics is None
    assert engine.offer.action_context_size == 2
    assert engine._normalizer.state is IDENTITY
    assert engine.stateful


def test_the_first_frame_is_the_offer_and_each_reply_has_its_figures() -> None:
    with Serving(Scripted()) as serving, serving.connect() as client:
        assert read_offer(client.recv()) == OFFER
        client.send(seen(0.5, number=7))
        result = chunk(client.recv(timeout=PATIENCE_S))
        assert result.actions.shape == (H, A)
        assert (result.number, result.batch) == (7, 1)
        assert (result.encode_ms, result.denoise_ms) == (1.0, 2.0)
        client.send(seen(0.5))
        assert "number" not in decode(client.recv(timeout=PATIENCE_S)), "of one that asks for none"


def test_images_and_options_reach_the_policy() -> None:
    policy = Scripted()
    image = np.full((1, 3, 16, 16), 200, np.uint8)
    leftover = np.ones((H, A), np.float32)
    with Serving(policy) as serving, serving.connect() as client:
        client.recv()
        observation = {"proprio": np.zeros((1, A), np.float32), "prompt": "lift", "raw": image}
        observation |= {"jpeg": to_jpeg(image), "prev_action": leftover, "est_delay": 2}
        client.send(write_request(Request(observation, "rtc", 3, Guidance(vjp=False))))
        assert chunk(client.recv(timeout=PATIENCE_S))
    (asked,) = policy.asked
    assert asked["guidance"] == GuidanceOptions(vjp=False)
    assert (asked["prompt"], asked["est_delay"]) == ("lift", 2)
    assert (asked["prev_action"] == leftover).all()
    assert (asked["raw"] == image).all()
    assert np.abs(asked["jpeg"].astype(int) - image).max() < 4


def test_openpis_keys_are_understood_of_a_client_that_knows_no_others() -> None:
    policy, names = Scripted(), Keys({"top": "images.cam_high"}, "robot.state")
    image = np.zeros((1, 3, 4, 6), np.uint8)
    ours = {"proprio": np.full((1, A), 0.5, np.float32), "top": image}
    with Serving(engine_of(policy, keys=names)) as serving, serving.connect() as client:
        client.recv()
        for sent in (encode(openpi_observation(ours, *names)), seen(0.5, top=image)):
            client.send(sent)
            assert (chunk(client.recv(timeout=PATIENCE_S)).actions == 0.5).all()
    assert [asked["top"].shape for asked in policy.asked] == [image.shape] * 2


def test_a_newer_observation_replaces_one_that_waits(
    held: tuple[Serving, ClientConnection],
) -> None:
    serving, client = held
    with serving.connect() as other:
        other.recv()
        client.send(seen(2))
        until("it waits", lambda: serving.waiting() == 1)
        other.send(seen(9))
        until("both wait", lambda: serving.waiting() == 2)
        client.send(seen(3))
        until("it is replaced", lambda: 3 in waiting_states(serving))
        serving.policy._go.set()
        assert (chunk(client.recv(timeout=PATIENCE_S)).actions == 1).all(), "in order"
        assert client.recv(timeout=PATIENCE_S) == REPLACED
        assert (chunk(client.recv(timeout=PATIENCE_S)).actions == 3).all()
        assert (chunk(other.recv(timeout=PATIENCE_S)).actions == 9).all()
    assert [asked["proprio"][0, 0] for asked in serving.policy.asked] == [1, 3, 9], "in its place"


def waiting_states(serving: Serving) -> list[float]:
    asked = [decode(asked.message) for asked, _ in list(serving.desk._waiting.values())]
    return [float(values["proprio"][0, 0]) for values in asked]


def test_who_waits_when_the_engine_is_free_is_computed_together(
    held: tuple[Serving, ClientConnection],
) -> None:
    serving, client = held
    with ExitStack() as stack:
        others = [stack.enter_context(serving.connect()) for _ in range(10)]
        for i, other in enumerate(others):
            other.recv()
            other.send(seen(i + 2))
        until("all wait", lambda: serving.waiting() == 10)
        serving.policy._go.set()
        results = [chunk(other.recv(timeout=PATIENCE_S)) for other in others]
    assert [result.actions[0, 0] for result in results] == list(range(2, 12))
    assert serving.policy.sizes == [1, 8, 2]
    assert [result.batch for result in results] == [8] * 8 + [2] * 2
    assert all(result.queue_ms > 0 for result in results)
    assert chunk(client.recv(timeout=PATIENCE_S)).batch == 1


def test_the_time_in_the_queue_is_told_apart_from_the_computation(
    held: tuple[Serving, ClientConnection],
) -> None:
    serving, client = held
    client.send(seen(2))
    until("it has waited for 50 ms", lambda: serving.waiting() and serving.desk.age_s() > 0.05)
    until("the second too", lambda: oldest_waiting_s(serving) > 0.05)
    serving.policy._go.set()
    first, second = (chunk(client.recv(timeout=PATIENCE_S)) for _ in range(2))
    assert first.infer_ms > 50 > second.infer_ms
    assert second.queue_ms > 50 > first.queue_ms


def oldest_waiting_s(serving: Serving) -> float:
    return time.perf_counter() - next(iter(serving.desk._waiting.values()))[0].t_asked


def test_while_it_computes_it_listens(held: tuple[Serving, ClientConnection]) -> None:
    serving, client = held
    assert serving.get("/healthz") == (200, "OK\n")
    with serving.connect() as other:
        assert read_offer(other.recv(timeout=PATIENCE_S)) == OFFER
        other.send("no request")
        pong = client.ping()
        assert pong.wait(PATIENCE_S)


def test_a_server_that_is_stuck_is_not_healthy(
    held: tuple[Serving, ClientConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, _ = held
    monkeypatch.setattr("rt.serve.front.STALLED_S", 0.05)
    until("it says so", lambda: serving.get("/healthz")[0] == 503)
    serving.policy._go.set()
    until("it is well again", lambda: serving.get("/healthz") == (200, "OK\n"))


def test_a_client_that_goes_leaves_its_place(held: tuple[Serving, ClientConnection]) -> None:
    serving, client = held
    with serving.connect() as other:
        other.recv()
        other.send(seen(2))
        until("it waits", lambda: serving.waiting() == 1)
    until("its place is free", lambda: serving.waiting() == 0)
    client.send(seen(3))
    until("the one that is computed for waits, too", lambda: serving.waiting() == 1)
    client.socket.shutdown(socket.SHUT_RDWR)
    until("it has gone", lambda: serving.clients() == serving.waiting() == 0)
    serving.policy._go.set()
    with serving.connect() as later:
        later.recv()
        answered(later)


def test_a_desk_closes_once_what_is_computed_is_answered() -> None:
    go = threading.Event()

    def answer(asked: Sequence[Asked]) -> list[bytes | str]:
        assert go.wait(PATIENCE_S)
        return [one.message for one in asked]

    async def close() -> None:
        desk = Desk(answer, 1, thread)
        asks = [asyncio.create_task(desk.ask(client, client)) for client in "ab"]
        await asyncio.wait([asyncio.create_task(desk.ask("c", "c"))], timeout=0)  # they are asked
        closing = asyncio.create_task(desk.close("it ends"))
        assert await asks[1] == "it ends"
        assert await desk.ask("d", "d") == "it ends"
        assert not closing.done()
        go.set()
        await closing
        assert asks[0].done()
        assert asks[0].result() == "a"

    with ThreadPoolExecutor(1) as thread:
        asyncio.run(close())


def test_a_front_hangs_up_once_what_is_due_is_sent() -> None:
    class Late:
        def __init__(self) -> None:
            self.asked, self.go = asyncio.Event(), asyncio.Event()

        async def ask(self, client: object, message: bytes | str) -> bytes | str:
            self.asked.set()
            await self.go.wait()
            return message

        def age_s(self) -> float:
            return 0.0

    async def close() -> None:
        late = Late()
        front = Front(late, b"offer")
        port = await front.open(host="127.0.0.1", port=0)
        async with connect_async(f"ws://127.0.0.1:{port}", proxy=None) as client:
            assert await client.recv() == b"offer"
            await client.send(b"request")
            await late.asked.wait()
            closing = asyncio.create_task(front.close())
            await asyncio.wait([closing], timeout=0.1)
            late.go.set()
            assert await client.recv() == b"request"
            await closing

    asyncio.run(close())


def test_a_policy_that_carries_state_is_served_to_one_client_at_a_time() -> None:
    policy = Stateful()
    with Serving(policy) as serving:
        with serving.connect() as client:
            client.recv()
            answered(client)
            with pytest.raises(InvalidStatus) as refused, serving.connect():
                pass
            body = refused.value.response.body.decode()
            assert refused.value.response.status_code == 503
            assert "at most 1 robot" in body
            assert "carries state" in body
            answered(client)
        assert policy.resets == 1
        until("it has gone", lambda: serving.clients() == 0)
        with serving.connect() as client:
            client.recv()
            for episode, resets in ((1, 2), (1, 2), (2, 3)):
                client.send(seen(episode=episode))
                assert chunk(client.recv(timeout=PATIENCE_S))
                assert policy.resets == resets


def test_with_the_key_one_is_let_in_and_health_needs_none() -> None:
    with Serving(Scripted(), key="k" * 16) as serving:
        headers = {"Authorization": f"Api-Key {'k' * 16}"}
        with serving.connect(additional_headers=headers) as client:
            client.recv()
            answered(client)
        assert serving.get("/healthz") == (200, "OK\n")


@contextmanager
def served(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, and its URL."""
    process = serve_process("--port", "0", *flags)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next((line.split()[-1] for line in lines if " is served at " in line), "")
        assert url, process.communicate()
        yield process, url
    finally:
        process.kill()
        process.communicate()


def test_over_tls_until_ctrl_c(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "warm").touch()
    (tmp_path / "done").touch()
    flags = ["-P", str(waiting_yaml(tmp_path)), "--tls-cert", str(cert), "--tls-key", str(key)]
    with served(*flags) as (process, url):
        assert url.startswith("wss://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=cert)
        with connect_to(url, ssl=trusting) as client:
            offer = read_offer(client.recv())
            assert offer is not None
            assert offer.policy_type == "serving:Waiting"
            answered(client)
            process.send_signal(signal.SIGINT)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == CloseCode.SERVICE_RESTART
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, err) == (0, "")
        assert out.endswith("no longer served\n")


def test_it_answers_once_it_is_warm_and_ends_once_it_has_answered(tmp_path: Path) -> None:
    port = free_port()
    process = serve_process("-P", str(waiting_yaml(tmp_path)), "--port", str(port))
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("loading ")
        with pytest.raises(ConnectionRefusedError):
            get(port, "/healthz")
        (tmp_path / "warm").touch()
        assert " is served at " in process.stdout.readline()
        with (
            connect_to(f"ws://127.0.0.1:{port}") as client,
            connect_to(f"ws://127.0.0.1:{port}") as other,
        ):
            client.recv()
            other.recv()
            client.send(seen(0.5))
            until("it computes", (tmp_path / "computing").exists)
            other.send(seen(0.7))
            process.send_signal(signal.SIGTERM)
            assert "ending" in process.stdout.readline()
            assert "the policy server is ending" in str(other.recv(timeout=PATIENCE_S))
            (tmp_path / "done").touch()
            assert (chunk(client.recv(timeout=PATIENCE_S)).actions == 0.5).all()
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == CloseCode.SERVICE_RESTART
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()
