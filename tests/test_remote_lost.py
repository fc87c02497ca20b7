"""A policy on another machine, and all that can go wrong on the way there and back."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from launched import unique_session, until
from making import Simulate
from remote import IDENTITY, Start, ask, observation, remote, starting
from scripted_server import OFFER, Break, H, ScriptedServer, answering, chunk, result
from served import certificate

from rt import clock
from rt.child import Status
from rt.errors import NoAnswerError
from rt.infer.modes import open_mode
from rt.infer.pipeline import FAILURES_IN_A_ROW, Pipeline
from rt.infer.policies.remote_policy import RemotePolicy, link
from rt.infer.process import reached
from rt.records import STATUS, Hold, Outcome, Phase
from rt.session import Session, ring_table
from rt.testing import WIDE_OPEN, config
from rt.wire.codec import encode
from rt.wire.offer import write_offer

SOON_MS = 500.0  # a deadline that a test waits for


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as start:
        yield start


def back(policy: RemotePolicy) -> str:
    """Ask until there is an answer: the number in its chunk."""

    def answered() -> str | None:
        outcome, words = ask(policy)
        return words if outcome == Outcome.OK else None

    return str(until("an answer", answered))


def test_an_answer_after_its_deadline_is_no_answer_to_the_next_request(start: Start) -> None:
    def late(n: int, request: dict[str, Any]) -> Iterable[bytes]:
        if n == 0:
            return []
        return [result(0, held[0]), result(n, request)] if n == 1 else [result(n, request)]

    policy, server = start(late, deadline_ms=SOON_MS)
    held = server.requests
    outcome, words = ask(policy)
    assert outcome == Outcome.TOO_LATE
    assert words == f"{server.url}: no answer within 500 ms (deadline_ms)"
    assert ask(policy) == (Outcome.OK, "1")
    assert ask(policy) == (Outcome.OK, "2")
    assert server.connections == 1


def test_an_answer_that_came_between_two_requests_is_thrown_away(start: Start) -> None:
    policy, server = start(lambda n, r: answering(n, r) if n else [], deadline_ms=SOON_MS)
    assert ask(policy)[0] == Outcome.TOO_LATE
    server.push(result(0, server.requests[0]))
    connection = policy._link._connection
    assert connection is not None
    assert connection.ping().wait(20)  # what was sent before its pong has come
    assert ask(policy) == (Outcome.OK, "1")
    server.push(b"nobody asked for this")
    assert connection.ping().wait(20)
    assert ask(policy) == (Outcome.OK, "2")
    assert server.connections == 1


def test_a_server_that_owes_two_answers_is_lost(start: Start) -> None:
    policy, server = start(lambda n, r: answering(n, r) if n > 1 else [], deadline_ms=SOON_MS)
    assert [ask(policy)[0] for _ in range(2)] == [Outcome.TOO_LATE] * 2
    outcome, words = ask(policy)
    assert (outcome, len(server.requests)) == (Outcome.LOST, 2)
    assert words == f"the connection to {server.url} was lost: it owes 2 answers"
    back(policy)
    assert server.connections == 2


@pytest.mark.parametrize("code", [None, 1011, 1012])
def test_a_connection_that_breaks_under_a_request_is_made_again(
    start: Start, code: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def breaks(n: int, request: dict[str, Any]) -> Iterable[bytes | str]:
        if n == 1:
            raise Break(code)
        return answering(n, request)

    policy, server = start(breaks)
    assert ask(policy) == (Outcome.OK, "0")
    outcome, words = ask(policy)
    assert outcome == Outcome.LOST
    assert words.startswith(f"the connection to {server.url} was lost: ")
    assert str(code or "") in words
    assert back(policy) == "2"
    assert server.connections == 2
    assert "websockets.client" not in {record.name for record in caplog.records}


def test_a_server_that_is_gone_is_unreachable_until_it_is_back(start: Start) -> None:
    policy, server = start()
    assert ask(policy)[0] == Outcome.OK
    server.__exit__()
    until("the connection to be gone", lambda: policy._link._connection is None or ask(policy))
    assert ask(policy)[0] == Outcome.UNREACHABLE
    until("the words to say it", lambda: "connection refused" in ask(policy)[1])
    assert "python -m rt.serve" in ask(policy)[1]
    with ScriptedServer(port=server.port):
        assert back(policy) == "0"
        policy.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("no such mode", "the policy server says: no such mode"),
        ('Traceback:\n  File "x"\nValueError: 7 joints\n', "says: ValueError: 7 joints"),
        (b"\xc1", "expected a msgpack map"),
        (encode({"state": 1}), "expected 'actions' of the policy server, got state"),
        (lambda n, r: result(n, r, actions=chunk(n)[:-1]), "expected shape (8, 2), got (7, 2)"),
        (lambda n, r: result(n, r, actions=chunk(n) * np.nan), "expected finite numbers"),
        (lambda n, r: result(n, r, actions=chunk(n).astype(bool)), "actions: expected numbers"),
        (lambda n, r: result(n, r, number=41), "it answered request 41 in place of 2"),
        (lambda n, r: result(n, r, number=None), "it answered request None in place of 2"),
    ],
)
def test_a_wrong_answer_costs_one_chunk_and_says_what_is_wrong(
    start: Start, answer: Any, words: str
) -> None:
    def wrong(n: int, request: dict[str, Any]) -> Iterable[bytes | str]:
        if n != 1:
            return answering(n, request)
        return [answer(n, request) if callable(answer) else answer]

    policy, server = start(wrong)
    assert ask(policy) == (Outcome.OK, "0")
    outcome, said = ask(policy)
    assert outcome == Outcome.WRONG
    assert said.startswith(f"{server.url}: ")
    assert words in said
    assert "\n" not in said
    assert back(policy) == "2"
    # Once an answer was another request's, only a new connection has one answer for each.
    assert server.connections == (2 if "in place of" in words else 1)


def test_a_chunk_is_of_the_shape_that_was_offered_or_else_of_the_first_one_s(start: Start) -> None:
    def shorter(n: int, request: dict[str, Any]) -> Iterable[bytes]:
        return [result(n, request, actions=chunk(n)[: H - n])]

    def longer(n: int, request: dict[str, Any]) -> Iterable[bytes]:
        return [result(n, request, actions=chunk(n)[: H - 1 + n])]

    policy, _ = start(longer)
    assert ask(policy)[0] == Outcome.WRONG
    stock = {"camera_map": {"head": "image"}, "state_key": "state"}
    head = np.zeros((1, 3, 4, 4), np.uint8)
    policy, _ = start(shorter, {"greeting": encode({})}, **stock)
    assert [ask(policy, head=head)[0] for _ in range(2)] == [Outcome.OK, Outcome.WRONG]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dims": {"action_horizon": H, "action_dim": 3}}, "another policy is served there now"),
        ({"modes": ("naive",)}, "another policy is served there now"),
        ({"trained_for": ("sim",)}, "another policy is served there now"),
        ({"action_context_size": 5}, "another policy is served there now"),
        ({"policy": "b.yaml"}, "another policy is served there now"),
        ({"policy_type": "sway"}, "another policy is served there now"),
        ({"units": "deg"}, "expected positions in rad, got an offer of 'deg'"),
        ({"protocol": 2}, "speaks protocol 2, this robot 1"),
        (None, "another policy is served there now"),
        ("full", "the policy server says: full"),
    ],
)
def test_another_policy_in_its_place_is_not_asked(start: Start, change: Any, words: str) -> None:
    policy, server = start(lambda n, r: answering(n, r) if n == 1 else _break())
    assert ask(policy)[0] == Outcome.LOST
    server.greeting = (
        encode({})
        if change is None
        else change
        if isinstance(change, str)
        else write_offer(msgspec.structs.replace(OFFER, **change))
    )
    until("another offer to be refused", lambda: ask(policy)[0] == Outcome.WRONG)
    assert policy._link._failures == 2  # it is not asked for its offer all the time
    assert len(server.requests) == 1
    assert server.connections == 2
    assert words in until("the wait to be over", lambda: _wrong(policy))
    server.greeting = write_offer(msgspec.structs.replace(OFFER, version="0.2"))
    assert back(policy) == "1"


def _break() -> Iterable[bytes]:
    raise Break


def _wrong(policy: RemotePolicy) -> str:
    outcome, words = ask(policy)
    return words if outcome == Outcome.WRONG else ""


def test_a_stock_server_is_found_again(start: Start) -> None:
    stock = {"camera_map": {"head": "image"}, "state_key": "state"}
    policy, _ = start(
        lambda n, r: [encode({"actions": chunk(n)})] if n else _break(),
        {"greeting": encode({})},
        **stock,
    )
    head = np.zeros((1, 3, 4, 4), np.uint8)
    assert ask(policy, head=head)[0] == Outcome.LOST
    until("an answer", lambda: ask(policy, head=head) == (Outcome.OK, "1"))


def test_it_waits_longer_after_every_failure_and_never_as_long_as_another_robot(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tries = [0.0], []
    connect = socket.create_connection
    with ScriptedServer() as server:
        policies = [remote(server.url, seed=seed) for seed in (1, 1, 2)]
        monkeypatch.setattr(link, "time", SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr(link.socket, "create_connection", _counting(connect, tries))
    waits = []
    for policy in policies:
        now[0], waited = 0.0, []
        until("the goodbye", lambda policy=policy: _gone(policy))
        for _ in range(9):
            now[0] = policy._link._not_before
            tries.clear()
            assert ask(policy)[0] == Outcome.UNREACHABLE
            assert len(tries) == 1
            waited.append(policy._link._not_before - now[0])
            assert [ask(policy)[0] for _ in range(3)] == [Outcome.UNREACHABLE] * 3
            assert len(tries) == 1  # nobody is asked meanwhile
        waits.append(waited)
    for i, wait in enumerate(waits[0]):
        longest = min(0.1 * 2 ** (i + 1), 5.0)
        assert longest / 2 <= wait <= longest
    assert waits[0] == waits[1]
    assert not set(waits[0]) & set(waits[2])


def _counting(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def count(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return function(*args, **options)

    return count


def _gone(policy: RemotePolicy) -> bool:
    """Whether it has noticed that its server went."""
    return ask(policy)[0] == Outcome.UNREACHABLE


def test_an_answer_starts_the_waits_anew(start: Start) -> None:
    policy, _ = start(lambda n, r: answering(n, r) if n == 2 else _break())
    failures = []
    for _ in range(2):
        until("a connection", lambda: ask(policy)[0] != Outcome.UNREACHABLE)
        failures.append(policy._link._failures)
    assert failures == [1, 2]
    back(policy)
    assert policy._link._failures == 0


def test_a_server_that_fails_is_left_where_there_is_another(start: Start) -> None:
    with ScriptedServer(lambda n, r: ["the policy failed: RuntimeError"]) as broken:
        _, server = start()
        with closing(remote(broken.url, server.url)) as policy:
            assert ask(policy)[0] == Outcome.WRONG
            assert [ask(policy)[0] for _ in range(3)] == [Outcome.OK] * 3
    assert len(broken.requests) == 1


def test_a_request_is_not_made_while_nobody_is_asked(start: Start) -> None:
    policy, server = start()
    server.__exit__()
    until("a wait", lambda: ask(policy)[0] == Outcome.UNREACHABLE)
    policy._link._not_before = time.monotonic() + 60
    with pytest.raises(NoAnswerError):
        policy._link.ask(lambda: pytest.fail("a request was made"))


def test_another_server_is_asked_at_once(start: Start) -> None:
    with ScriptedServer() as a, ScriptedServer() as b, closing(remote(a.url, b.url)) as policy:
        assert ask(policy) == (Outcome.OK, "0")
        a.__exit__()
        until("the goodbye", lambda: len(b.requests) or ask(policy))
        assert policy.outcomes[Outcome.LOST] <= 1  # it may have been asked as it went
        assert policy.outcomes[Outcome.UNREACHABLE] == 0
        assert ask(policy)[0] == Outcome.OK
        assert (a.connections, b.connections) == (1, 1)


def test_a_robot_never_executes_a_chunk_that_came_too_late(
    start: Start, simulate: Simulate
) -> None:
    late = {3, 7}

    def script(n: int, request: dict[str, Any]) -> Iterable[bytes]:
        if n in late:
            return []
        before = [result(n - 1, server.requests[n - 1])] if n - 1 in late else []
        return [*before, result(n, request)]

    policy, server = start(script, deadline_ms=SOON_MS)
    run = simulate(config(), policy=policy, delay=lambda n: 20.0 if n - 1 in late else 2.5)
    run.tick(100)
    requests = len(server.requests)
    assert requests > max(late) + 3
    assert policy.outcomes == [requests - len(late), len(late), 0, 0, 0]
    assert run.dropped == len(late)
    executed = {int(sent.command[0] // 1000) - 1 for sent in run.robot.sent if not sent.held}
    assert executed >= set(range(max(late) + 2)) - late
    assert not executed & late
    assert Hold.EXPIRED in {int(record["hold"]) for record in run.ticks}


def test_the_way_back_is_a_ramp(start: Start, simulate: Simulate) -> None:
    def script(n: int, request: dict[str, Any]) -> Iterable[bytes]:
        if n == 3:
            server.greeting = "not yet"
            raise Break
        return [result(n, request, actions=np.full((H, 2), 0.0 if n < 3 else 50.0, np.float32))]

    policy, server = start(script)
    slow = msgspec.structs.replace(WIDE_OPEN, max_delta_deg=5.0)
    run = simulate(config([slow], max_delta_deg=5.0), policy=policy)
    until("the chunk's end", lambda: run.tick()["hold"] == Hold.EXPIRED)
    server.greeting = write_offer(OFFER)
    until("the next chunk", lambda: run.tick()["hold"] == Hold.NONE)
    back_at = len(run.ticks) - 1
    run.tick(30)
    assert int(run.chunks[int(run.ticks[back_at]["chunk"])]["cold"]) == 1
    commands = np.array([sent.command for sent in run.robot.sent])
    steps = np.abs(np.diff(commands, axis=0)).max(axis=1)
    limit = np.deg2rad(5.0)
    assert steps.max() <= limit * (1 + 1e-9)
    assert commands[back_at].max() < 2 * limit  # of the 50 rad that the chunk asks for
    assert commands[-1].max() > 10 * limit  # it goes there


def test_a_partition_does_not_end_inference(start: Start) -> None:
    settings = config(session=unique_session("remote"))
    session = Session(settings.run.session)
    session.create(ring_table(settings))
    try:
        policy, server = start()
        mode = open_mode("rtc", settings.params)
        pipeline = Pipeline(settings, session, policy, IDENTITY, mode)
        assert pipeline.warm_up() > 0
        ticks = session.writer("tick")
        record = ticks.buffer()
        record["phase"], record["hold"], record["chunk"] = Phase.RUN, Hold.NO_CHUNK, -1

        def step() -> int:
            record["tick"] += 1
            record["t_due"] = clock.now_ns()
            ticks.write(record)
            assert pipeline.step(record)
            return session.reader("chunk").head

        server.__exit__()
        for _ in range(3 * FAILURES_IN_A_ROW):
            assert step() == 0
        assert pipeline.dropped == 0
        assert server.url in pipeline.problem
        with ScriptedServer(port=server.port):
            until("a chunk", lambda: step() == 1)
            assert pipeline.problem == ""
            policy.close()
        assert policy.outcomes[Outcome.OK] == 4
        assert policy.outcomes[Outcome.UNREACHABLE] >= 3 * FAILURES_IN_A_ROW - 1
    finally:
        session.clean()


def test_where_a_robot_runs_already_a_server_is_waited_for(start: Start) -> None:
    settings = config(session=unique_session("remote"))
    session = Session(settings.run.session)
    session.create(ring_table(settings) | {"status.inference": (STATUS, 4)})
    try:
        _, server = start()
        server.__exit__()
        with ExitStack() as stack, Status(session, "inference") as status:
            told = stack.enter_context(session.reader("status.inference"))

            def build() -> RemotePolicy:
                if told.head:  # it has said that it waits
                    stack.enter_context(ScriptedServer(port=server.port))
                return remote(server.url, connect_timeout_s=0.05)

            with pytest.raises(NoAnswerError, match="connection refused"):
                reached(session, status, build)
            assert told.head == 0
            with session.writer("tick") as ticks:
                ticks.write(ticks.buffer())
            with closing(reached(session, status, build)) as policy:
                assert ask(policy)[0] == Outcome.OK
            said = told.buffer()
            told.read_latest(said)
            assert bytes(said["detail"]).startswith(b"waiting for the policy: no policy server at")
    finally:
        session.clean()


def test_what_bounds_a_send_does_not_end_a_connection_that_is_idle(start: Start) -> None:
    """It would in websockets before 17.3, whose reader has the socket's time limit too."""
    policy, server = start()
    assert ask(policy) == (Outcome.OK, "0")
    connection = policy._link._connection
    assert connection is not None
    connection.socket.settimeout(0.01)
    assert connection.ping().wait(20)  # the reader begins to wait anew
    idle_since = time.monotonic()
    until("it has been idle", lambda: time.monotonic() > idle_since + 0.2)
    assert ask(policy) == (Outcome.OK, "1")
    assert server.connections == 1


def test_a_request_that_cannot_be_sent_is_too_late(start: Start) -> None:
    """Nobody reads at the other end, and the network takes no more."""
    released = threading.Event()

    def stuck(n: int, request: dict[str, Any]) -> Iterable[bytes]:
        released.wait(60)  # in the server's only thread
        return []

    policy, _ = start(stuck, deadline_ms=SOON_MS)
    try:
        assert ask(policy)[0] == Outcome.TOO_LATE
        connection = policy._link._connection
        assert connection is not None
        assert 0 < (connection.socket.gettimeout() or 0) <= SOON_MS / 1000
        big = observation() | {"head": np.zeros((5, 3, 999, 999), np.uint8)}
        with pytest.raises(NoAnswerError, match="could not be sent within 500 ms") as raised:
            policy.predict(big, IDENTITY)
        assert raised.value.outcome == Outcome.TOO_LATE
        assert policy._link._connection is None
    finally:
        released.set()


def test_a_way_back_that_takes_longer_than_the_deadline_costs_one_request(start: Start) -> None:
    policy, server = start(lambda n, r: answering(n, r) if n else _break(), deadline_ms=0.001)
    until(
        "the request",
        lambda: ask(policy)[0] in (Outcome.LOST, Outcome.TOO_LATE) and server.requests,
    )
    policy._link.close()
    words = until("a connection", lambda: _again(policy))
    assert words == f"{server.url} is connected again, too late for this observation"
    policy._link._deadline_s = 20.0
    connections = server.connections
    assert ask(policy)[0] == Outcome.OK
    assert server.connections == connections


def _again(policy: RemotePolicy) -> str:
    outcome, words = ask(policy)
    return words if outcome == Outcome.UNREACHABLE and "connected again" in words else ""


def test_a_tls_server_that_falls_silent_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    silent: list[socket.socket] = []

    def accept() -> None:
        silent.append(tls.wrap_socket(listening.accept()[0], server_side=True))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept)
        thread.start()
        url = f"wss://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(NoAnswerError, match="it does not answer"):
            remote(url, connect_timeout_s=0.3)  # comes back while the server is there still
        thread.join()
        silent[0].close()


def test_no_way_there_is_tried_as_long_as_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = socket.create_connection, []

    def create(*args: Any, **options: Any) -> socket.socket:
        tried.append(args)
        if len(tried) < 3:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")  # its cable comes up
        return real(*args, **options)

    with ScriptedServer() as server:
        monkeypatch.setattr(socket, "create_connection", create)
        with closing(remote(server.url)) as policy:
            assert ask(policy)[0] == Outcome.OK


def test_a_server_that_never_stops_talking_is_lost(start: Start) -> None:
    policy, server = start()
    assert ask(policy) == (Outcome.OK, "0")
    connection = policy._link._connection
    assert connection is not None
    for _ in range(12):  # as many as fit between two looks
        server.push(b"hello")
    assert connection.ping().wait(20)
    outcome, words = ask(policy)
    assert outcome == Outcome.LOST
    assert "it sends what nobody asked for" in words
    assert back(policy) == "1"
