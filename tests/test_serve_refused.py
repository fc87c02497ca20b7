"""`python -m rt.serve` and whoever sends what it should not: one clear error for that client, while
the others are served."""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from launched import ROOT, run_module, until
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
    engine_of,
    seen,
    serve_process,
    upgrade,
    waiting_yaml,
)
from test_wire import HOSTILE, PICTURES
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from rt.errors import ConfigError, MissingPackageError
from rt.extras import EXTRAS
from rt.infer.normalization import Normalizer
from rt.serve import __main__ as command
from rt.serve import access, desk, front
from rt.serve.load import load_engine
from rt.wire.codec import encode
from rt.wire.offer import MAX_MESSAGE_BYTES

ROBOTS = ROOT / "configs/policies/remote/policy.yaml"
KEY = "a key that nobody guesses"
UPGRADE = upgrade(base64.b64encode(os.urandom(16)).decode())


@pytest.fixture
def serving() -> Iterator[Serving]:
    """A server, and somebody who is served by it before and after."""
    with Serving(Scripted()) as serving, serving.connect() as other:
        other.recv()
        answered(other)
        yield serving
        answered(other, 0.7)


REQUESTS: dict[str, tuple[bytes | str, str]] = {
    "text": ("hello", "expected a binary frame of the robot, got text"),
    "no msgpack": (b"hello", "expected a msgpack map"),
    "an array that does not fit": (HOSTILE["too few bytes"], "expected 8 bytes for float32"),
    "a client of another version": (
        encode({"protocol": 9, "proprio": np.zeros((1, A))}),
        "the robot speaks protocol 9, this policy server .* 1: install the same rt",
    ),
    "another robot's dims": (
        encode({"proprio": np.zeros((1, A + 1))}),
        r"proprio: expected shape \(any, 2\), got \(1, 3\)",
    ),
    "another robot's leftover": (
        seen(mode="rtc", est_delay=1, prev_action=np.zeros((H + 1, A))),
        r"prev_action: expected shape \(4, 2\), got \(5, 2\)",
    ),
    "a mode that is not served": (
        seen(mode="prefix", est_delay=1, prev_action=np.zeros((H, A))),
        "mode: expected 'rtc', or no mode and no leftover, got 'prefix'",
    ),
    "a state that is not finite": (seen(np.nan), "proprio: expected finite numbers"),
    "an image of floats": (seen(head=np.zeros((1, 3, 4, 6))), "head: expected images, uint8"),
    "a picture of gigabytes": (seen(head=PICTURES["a picture of gigabytes"]), "head: expected"),
    "what the policy cannot do": (seen(-1), "^the policy failed: ZeroDivisionError$"),
}


@pytest.mark.parametrize(("request_", "words"), REQUESTS.values(), ids=REQUESTS)
def test_a_wrong_request_is_answered_in_one_sentence_and_the_next_is_served(
    serving: Serving, request_: bytes | str, words: str
) -> None:
    with serving.connect() as client:
        client.recv()
        client.send(request_)
        reply = client.recv(timeout=PATIENCE_S)
        assert isinstance(reply, str)
        with pytest.raises(AssertionError, match=words):
            chunk(reply)
        answered(client)


def test_whatever_is_no_message_is_answered_and_gone_on_with(serving: Serving) -> None:
    with serving.connect() as client:
        client.recv()
        for message in HOSTILE.values():
            client.send(message)
            reply = client.recv(timeout=PATIENCE_S)
            assert isinstance(reply, str)
            assert reply.isprintable()
            assert 10 < len(reply) < 1100
        answered(client)


def test_the_policys_secrets_stay_on_the_server(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving.connect() as client:
        client.recv()
        client.send(seen(-1))
        assert "secret" not in str(client.recv(timeout=PATIENCE_S))
    assert "ZeroDivisionError: a secret of the server's" in capfd.readouterr().err


def test_what_the_policy_misses_is_named() -> None:
    class Looking(Scripted):
        def predict(self, input_data: dict[str, Any], normalizer: Any) -> Any:
            return input_data["head"].mean() + super().predict(input_data, normalizer)

    with Serving(Looking()) as serving, serving.connect() as client:
        client.recv()
        client.send(seen())
        expected = "expected 'head' in the request, which the policy observes"
        assert client.recv(timeout=PATIENCE_S) == expected
        client.send(seen(head=np.zeros((1, 3, 4, 6), np.uint8)))
        assert chunk(client.recv(timeout=PATIENCE_S))


def test_another_number_of_images_is_refused() -> None:
    offer = msgspec.structs.replace(OFFER, dims=OFFER.dims | {"num_img_obs": 2})
    with Serving(engine_of(Scripted(), offer)) as serving, serving.connect() as client:
        client.recv()
        client.send(seen(head=np.zeros((1, 3, 4, 6), np.uint8)))
        assert client.recv(timeout=PATIENCE_S) == "head: expected 2 images, got 1"


def test_who_is_computed_with_a_wrong_one_gets_their_chunk() -> None:
    policy = Batching()
    with Serving(policy) as serving, serving.greeted(5) as clients:
        with policy.held():
            clients[0].send(seen(1))
            until("it computes", lambda: policy.asked)
            for client, message in zip(
                clients[1:], (seen(2), b"junk", seen(-1), seen(3)), strict=True
            ):
                client.send(message)
            until("all wait", lambda: serving.waiting() == 4)
        replies = [client.recv(timeout=PATIENCE_S) for client in clients]
    assert policy.sizes == [1, 3]
    assert [isinstance(reply, bytes) for reply in replies] == [True, True, False, False, True]
    assert [chunk(replies[i]).actions[0, 0] for i in (0, 1, 4)] == [1, 2, 3]


def test_an_engine_that_breaks_is_told_and_goes_on() -> None:
    class Broken(Batching):
        def infer_many(self, asks: Any, normalizer: Any) -> list[Any]:
            if asks[0][0]["proprio"][0, 0] == 1:
                raise RuntimeError("a lost GPU")
            if asks[0][0]["proprio"][0, 0] == 2:
                return []  # fewer than asked for
            return super().infer_many(asks, normalizer)

    with Serving(Broken()) as serving, serving.connect() as client:
        client.recv()
        for state, name in ((1, "RuntimeError"), (2, "ValueError")):
            client.send(seen(state))
            assert client.recv(timeout=PATIENCE_S) == f"the policy failed: {name}"
        good = serving.desk._answer
        serving.desk._answer = lambda asked: []  # a fault of the engine's own
        client.send(seen(3))
        assert client.recv(timeout=PATIENCE_S) == "the policy server failed: ValueError"
        serving.desk._answer = good
        answered(client)


def close_code_of(client: Any, message: bytes) -> int:
    """With which the server closes upon `message`."""

    def ask() -> None:
        client.send(message)
        while True:
            client.recv(timeout=PATIENCE_S)

    with pytest.raises(ConnectionClosed) as closed:
        ask()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_a_message_that_is_too_large_ends_its_sender(serving: Serving) -> None:
    with serving.connect() as client:
        client.recv()
        code = close_code_of(client, b"\0" * (MAX_MESSAGE_BYTES + 1))
        assert code == CloseCode.MESSAGE_TOO_BIG


def upgraded(serving: Serving) -> socket.socket:
    """A connection whose frames are written by hand."""
    raw = socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE_S)
    raw.sendall(UPGRADE)
    reply = b""
    while b"\r\n\r\n" not in reply:
        reply += raw.recv(4096)
    assert reply.startswith(b"HTTP/1.1 101 ")
    return raw


def close_code(raw: socket.socket) -> int | None:
    """Of a connection that the server ends; None: without a word."""
    received = b""
    while more := raw.recv(65536):
        received += more
    at = received.rfind(b"\x88")  # the close frame, which is the last
    return None if at < 0 else struct.unpack_from(">H", received, at + 2)[0]


def test_a_gigabyte_is_refused_by_its_announcement(serving: Serving) -> None:
    with upgraded(serving) as raw:
        raw.sendall(struct.pack("!BBQ", 0x82, 0x80 | 127, 1 << 30) + b"mask")
        assert close_code(raw) == CloseCode.MESSAGE_TOO_BIG


def test_a_frame_that_is_none_ends_its_sender(serving: Serving) -> None:
    with upgraded(serving) as raw:
        raw.sendall(b"\x82\x01x")  # a client's frames are masked
        assert close_code(raw) == CloseCode.PROTOCOL_ERROR


def test_who_dribbles_a_request_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "PING_S", 0.3)
    with Serving(Scripted()) as serving, upgraded(serving) as raw, serving.connect() as other:
        other.recv()
        raw.sendall(struct.pack("!BBQ", 0x82, 0x80 | 127, 1 << 20) + b"mask")
        raw.settimeout(0.05)

        def dribble() -> bool:
            answered(other)
            try:
                raw.sendall(b"x")
                while raw.recv(65536):
                    pass
            except TimeoutError:
                return False
            except OSError:
                return True
            return True

        until("it is hung up on", dribble)


def test_who_never_asks_for_anything_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "OPEN_S", 0.3)
    with Serving(Scripted()) as serving, serving.connect() as other:
        other.recv()
        for said in (b"", UPGRADE[:20]):
            with socket.create_connection(("127.0.0.1", serving.port), PATIENCE_S) as raw:
                raw.sendall(said)
                while raw.recv(4096):
                    pass
        answered(other)


def test_who_reads_no_replies_costs_a_bounded_number_of_requests() -> None:
    policy = Scripted()
    with Serving(policy) as serving, serving.connect() as other:
        other.recv()
        with policy.held(), serving.connect(close_timeout=0.1) as greedy:
            greedy.recv()
            greedy.send(seen(1))
            until("it computes", lambda: policy.asked)
            for _ in range(1000):
                greedy.send(seen(2))
            until("they are read", lambda: serving.waiting() == 1)
            assert serving.clients() == 2
            assert all(queue.qsize() <= 4 for queue in serving.front._replies.values())
        until("it has gone", lambda: serving.clients() == 1)
        answered(other)
        assert len(policy.asked) < 20


class Wide(Scripted):
    """Its chunk is more than sockets hold."""

    def predict(self, input_data: dict[str, Any], normalizer: Normalizer) -> Any:
        super().predict(input_data, normalizer)
        return np.zeros((H, 4 << 20), np.float32)


def test_who_takes_no_reply_is_hung_up_on_and_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "PING_S", 0.5)
    policy, message = Wide(), seen(1)
    with Serving(policy) as serving, upgraded(serving) as raw:
        raw.sendall(struct.pack("!BBHI", 0x82, 0x80 | 126, len(message), 0) + message)
        until("it computes", lambda: policy.asked)
        until("it is hung up on", lambda: serving.clients() == 0)


def test_a_robot_that_is_served_alone_and_has_died_is_soon_out_of_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "PING_S", 1000.0)
    monkeypatch.setattr(front, "ALONE_PING_S", 0.2)
    with Serving(Stateful()) as serving, upgraded(serving):  # which answers no ping
        until("another to be let in", lambda: let_in(serving))


def let_in(serving: Serving) -> bool:
    try:
        with serving.connect() as client:
            return bool(client.recv())
    except InvalidStatus:
        return False


def test_without_the_key_one_is_not_let_in() -> None:
    with Serving(Scripted(), key=KEY) as serving:
        for given, words in (
            ([], "expected the header 'Authorization: Api-Key KEY'"),
            ([("Authorization", f"Bearer {KEY}")], "expected the header"),
            ([("Authorization", "Api-Key wrong")], "wrong key"),
            ([("Authorization", "Api-Key ")], "expected the header"),
            ([("Authorization", f"Api-Key {KEY}é")], "wrong key"),
            ([("Authorization", f"Api-Key {KEY}")] * 2, "expected the header"),
        ):
            with pytest.raises(InvalidStatus) as refused:
                serving.connect(additional_headers=given).__enter__()
            assert refused.value.response.status_code == 401
            assert words in refused.value.response.body.decode()
        with serving.connect(additional_headers={"Authorization": f"Api-Key {KEY}"}) as client:
            client.recv()
            answered(client)


def test_no_page_in_a_browser_may_ask(serving: Serving) -> None:
    with pytest.raises(InvalidStatus) as refused:
        serving.connect(origin="http://evil.example").__enter__()
    assert refused.value.response.status_code == 403


def test_no_more_clients_than_can_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_CLIENTS", 2)
    with Serving(Scripted()) as serving, serving.connect() as one, serving.connect() as two:
        for client in (one, two):
            client.recv()
        with pytest.raises(InvalidStatus) as refused:
            serving.connect().__enter__()
        assert refused.value.response.status_code == 503
        assert b"at most 2 robots" in refused.value.response.body
        answered(one)


def test_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_OPEN", 3)
    monkeypatch.setattr(front, "OPEN_S", PATIENCE_S)  # it is not their silence
    with Serving(Scripted()) as serving, serving.connect() as client, ExitStack() as stack:
        client.recv()
        for _ in range(6):
            stack.enter_context(socket.create_connection(("127.0.0.1", serving.port), PATIENCE_S))
        late = stack.enter_context(
            socket.create_connection(("127.0.0.1", serving.port), PATIENCE_S)
        )
        late.settimeout(PATIENCE_S / 6)
        assert hung_up(late)
        answered(client)


def hung_up(raw: socket.socket) -> bool:
    try:
        return raw.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_full_desk_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "PLACES", 1)
    policy = Scripted()
    with Serving(policy) as serving, serving.greeted(3) as clients:
        with policy.held():
            clients[0].send(seen(1))
            until("it computes", lambda: policy.asked)
            clients[1].send(seen(2))
            until("one waits", lambda: serving.waiting() == 1)
            clients[2].send(seen(3))
            expected = "1 robots wait for the policy server already: ask again later"
            assert clients[2].recv(timeout=PATIENCE_S) == expected
        for client in clients[:2]:
            assert chunk(client.recv(timeout=PATIENCE_S))
        answered(clients[2])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: beyond this machine expected a key, got none"),
        (["--host", "no.such.host.invalid"], "--host: expected a name or an address of this"),
        (["--host", "192.0.2.1", "--api_key_file", "KEY"], "--port: expected a free port of 192"),
        (["--api_key_file", "SHORT"], "--api_key_file .*: expected a key of 16 printable"),
        (["--api_key_file", "missing"], "--api_key_file missing: expected a file"),
        (["--tls_cert", "KEY"], "expected both --tls_cert and --tls_key, got one"),
        (["--tls_cert", "KEY", "--tls_key", "KEY"], "--tls_cert .*: expected a PEM certificate"),
        (["--tls_cert", "no", "--tls_key", "no"], "--tls_cert no: .* No such file"),
        (["-P", "no.yaml"], "no.yaml"),
        (["-P", str(ROBOTS)], "expected the policy that is to be served, got the robot's YAML"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("KEY").write_text(KEY)
    Path("SHORT").write_text("short")
    policy = waiting_yaml(tmp_path)
    with pytest.raises(ConfigError, match=words):
        command.main(["-P", str(policy), "--port", "0", *flags])


@pytest.mark.parametrize("flags", [["--port", "65536"], ["--max_batch", "0"], ["--port", "x"]])
def test_a_number_that_is_none_is_refused(flags: list[str]) -> None:
    ended = run_module("rt.serve", "-P", "policy.yaml", *flags)
    assert ended.returncode == 2
    assert "expected a number from" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(
    serving: Serving, tmp_path: Path
) -> None:
    process = serve_process("-P", str(waiting_yaml(tmp_path)), "--port", str(serving.port))
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (2, "")
    assert f"expected a free port of 127.0.0.1, got {serving.port}" in err
    assert "Traceback" not in err


def test_a_port_that_is_lost_while_loading_is_told(tmp_path: Path) -> None:
    with access.bind("127.0.0.1", 0, None) as taken:
        port = taken.getsockname()[1]
        process = serve_process("-P", str(waiting_yaml(tmp_path)), "--port", str(port))
        assert process.stdout is not None
        assert process.stdout.readline().startswith("loading ")
        taken.listen()
        (tmp_path / "warm").touch()
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert f"got {port}" in err
    assert "Traceback" not in err


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS["remote"], "no_such_module", "no-such-package")
    with pytest.raises(MissingPackageError, match=r"rt.serve needs no-such-package.*\[remote\]"):
        command.main(["-P", str(waiting_yaml(tmp_path))])


def test_components_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    component = "{{class: torch.nn.Identity, params: {{action_dim: {}}}}}"
    path.write_text(
        f"model: {{component_config_paths: {{a: {component.format(2)}, b: {component.format(3)}}}}}"
        "\npolicy: {type: 'serving:Scripted'}\n"
    )
    with pytest.raises(ConfigError, match=r"params.action_dim: expected 2 as in .*, got 3"):
        load_engine(path)


def test_relative_actions_of_unknown_dims_are_refused(tmp_path: Path) -> None:
    path = waiting_yaml(tmp_path)
    path.write_text(path.read_text() + "delta_actions: true\n")
    with pytest.raises(ConfigError, match="params say state_dim and action_dim"):
        load_engine(path)
