"""A policy on another machine: what is asked of it, and what is refused before the robot moves."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from launched import ROOT
from making import Simulate
from remote import IDENTITY, Start, ask, observation, remote, starting
from scripted_server import OFFER, A, H, ScriptedServer, chunk
from served import certificate, free_port

from rt.config.files import convert
from rt.errors import ConfigError, NoAnswerError, PolicyError, RtError
from rt.infer import fit
from rt.infer.affine import Affine
from rt.infer.modes import open_mode
from rt.infer.normalization import Normalizer
from rt.infer.plan import Plan
from rt.infer.policies.remote_policy import RemotePolicy, parts
from rt.records import Outcome
from rt.testing import WIDE_OPEN, config
from rt.wire.codec import encode
from rt.wire.images import read_images
from rt.wire.offer import Scaled, Statistics, write_offer
from rt.wire.protocol import Result

STOCK = encode({"reset_pose": [0.0, 0.0]})
NAMES = {"camera_map": {"head": "observation/image"}, "state_key": "observation/state"}

UNEVEN = Statistics(action=Scaled(offset=[0.0, 1.0], scale=[1.0]))
NO_NUMBER = Statistics(action=Scaled(offset=[0.0, np.nan], scale=[1.0, 1.0]))


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as start:
        yield start


def same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """To the bit, and nothing more."""
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            assert got[key].dtype == value.dtype
            assert np.array_equal(got[key], value)
        else:
            assert got[key] == value


def test_the_policy_sees_what_it_would_see_here(start: Start) -> None:
    policy, server = start()
    seen = {
        "proprio": np.random.default_rng(0).normal(size=(3, A)).astype(np.float32),
        "head": np.random.default_rng(1).integers(0, 256, (2, 3, 6, 8), np.uint8),
        "action_context": np.ones((5, A), np.float32),
        "prompt": "höher",
    }
    assert np.array_equal(policy.predict(dict(seen), IDENTITY), chunk(0))
    same(server.requests[0], seen | {"protocol": 1, "number": 1, "episode": 0})
    policy.reset()
    policy.predict(dict(seen), IDENTITY)
    same(server.requests[1], seen | {"protocol": 1, "number": 2, "episode": 1})


@pytest.mark.parametrize(
    ("algorithm", "told"),
    [
        ("rtc", {"schedule": "linear", "max_guidance_weight": 3.0, "vjp": False}),
        ("prefix", {"schedule": "zeros", "max_guidance_weight": 5.0, "vjp": True}),
    ],
)
def test_a_leftover_goes_with_all_that_it_is_tied_by(
    start: Start, algorithm: Any, told: dict[str, Any]
) -> None:
    policy, server = start()
    params = config(schedule="linear", max_guidance_weight=3.0, vjp=False).params
    mode = open_mode(algorithm, params)
    mode.check(policy, "policy.yaml")
    leftover = np.random.default_rng(0).normal(size=(H, A)).astype(np.float32)
    plan = Plan(9, 0, cold=False, s=3, d=2, leftover=leftover)
    seen = observation()
    assert np.array_equal(mode.ask(policy, plan, dict(seen), IDENTITY), chunk(0))
    same(
        server.requests[0],
        seen
        | {
            "protocol": 1,
            "number": 1,
            "episode": 0,
            "mode": algorithm,
            "executed": 3,
            "est_delay": 2,
        }
        | {"prev_action": leftover, "guidance": told},
    )
    cold = Plan(10, 0)
    mode.ask(policy, cold, dict(seen), IDENTITY)
    same(server.requests[1], seen | {"protocol": 1, "number": 2, "episode": 0})


def test_images_go_as_jpeg_if_asked_for(start: Start) -> None:
    policy, server = start(image_encoding="jpeg")
    across = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.stack([np.tile(across, (48, 1)), np.full((48, 64), 90), np.full((48, 64), 30)])
    images = np.stack([image, image[:, ::-1]]).astype(np.uint8)
    policy.predict(observation() | {"head": images}, IDENTITY)
    sent = server.requests[0].pop("head")
    assert sum(part.nbytes for part in sent.values()) < images.nbytes / 4
    got = read_images({"head": sent})["head"]
    assert np.abs(got.astype(int) - images).max() < 16  # 64 apart with two channels swapped
    assert server.requests[0]["proprio"].dtype == np.float32


def test_what_is_served_is_what_the_policy_says_of_itself(start: Start) -> None:
    offer = msgspec.structs.replace(
        OFFER, modes=("naive", "rtc"), action_context_size=2, trained_for=("sim",)
    )
    policy, server = start(how={"greeting": write_offer(offer)})
    assert policy.modes == ("naive", "rtc")
    assert policy.described == f"scripted.yaml at {server.url}, images raw"
    assert policy.action_context_size == 2
    assert policy.trained_for == ("sim",)
    assert policy.dims == {"action_horizon": H, "action_dim": A}
    with pytest.raises(PolicyError, match="one of naive, rtc"):
        open_mode("blend", config().params).check(policy, "policy.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dims": {"action_horizon": 50}}, "dims.action_horizon: the model has 50, but"),
        ({"dims": {"state_dim": 7}}, "dims.state_dim: the model has 7, but"),
        ({"trained_for": ("real",)}, "trained_for: expected a policy that was trained for a sim"),
        (
            {"statistics": Statistics(action=Scaled(offset=[9.0, 0.0], scale=[1.0, 1.0]))},
            "statistics: action[0]: expected data of this robot, whose joint 0 moves between -90",
        ),
        ({}, ""),
        ({"statistics": Statistics(state=Scaled(offset=[0.1, 0.0], scale=[2.0, 2.0]))}, ""),
    ],
)
def test_what_does_not_fit_the_robot_is_refused_before_it_moves(
    start: Start, change: dict[str, Any], words: str
) -> None:
    arm = msgspec.structs.replace(WIDE_OPEN, lower_deg=(-90, -90), upper_deg=(90, 90))
    greeting = write_offer(msgspec.structs.replace(OFFER, **change))
    policy, server = start(how={"greeting": greeting}, deadline_ms=1000)
    with pytest.raises(ConfigError) if words else nullcontext() as raised:
        fit.check(policy, config([arm], max_delta_deg=5.0))
    assert words in (str(raised.value) if raised is not None else "")
    assert server.requests == []


@pytest.mark.parametrize(("deadline_ms", "too_short", "enough"), [(5000, 10, 10.1), (100, 6, 6.1)])
def test_no_call_takes_as_long_as_what_counts_as_a_stall(
    start: Start, deadline_ms: float, too_short: float, enough: float
) -> None:
    """The second may take 3 s all the same: to be connected again."""
    policy, _ = start(deadline_ms=deadline_ms)
    with pytest.raises(ConfigError, match="half of inference_timeout_s"):
        fit.check(policy, config(inference_timeout_s=too_short))
    fit.check(policy, config(inference_timeout_s=enough))


@pytest.mark.parametrize("algorithm", ["sequential", "naive", "blend", "temporal_ensembling"])
def test_a_stock_server_serves_every_mode_without_a_prefix(
    start: Start, simulate: Simulate, algorithm: Any
) -> None:
    def stock(n: int, request: dict[str, Any]) -> list[bytes]:
        timing = {"infer_ms": 0.001}
        return [encode({"actions": chunk(0).astype(np.float64), "policy_timing": timing})]

    policy, server = start(stock, {"greeting": STOCK}, **NAMES)
    mode = open_mode(algorithm, config().params)
    mode.check(policy, "policy.yaml")

    def observe(record: Any) -> dict[str, Any]:
        return observation() | {"head": np.full((2, 3, 6, 8), 7, np.uint8), "prompt": "up"}

    run = simulate(config(algorithm=algorithm), policy=policy, observe=observe)
    run.tick(40)
    assert len(run.chunks) > 3
    assert run.dropped == 0
    for request in server.requests:  # and nothing of ours
        expected = {"observation/image": np.full((3, 6, 8), 7, np.uint8), "prompt": "up"}
        same(request, expected | {"observation/state": np.zeros(A, np.float32)})
    assert policy.latency["denoise_ns"] == 1000


@pytest.mark.parametrize("algorithm", ["rtc", "prefix"])
def test_a_stock_server_is_not_asked_for_what_it_does_not_know(
    start: Start, algorithm: Any
) -> None:
    policy, server = start(how={"greeting": STOCK}, **NAMES)
    with pytest.raises(PolicyError) as raised:
        open_mode(algorithm, config().params).check(policy, "policy.yaml")
    said = str(raised.value)
    assert f"cannot run in the mode {algorithm!r}" in said
    assert "one of sequential, naive, blend, temporal_ensembling" in said
    assert f"{server.url} is a stock openpi server, which knows no prefix" in said
    assert "python -m rt.serve" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "policy: expected camera_map and state_key"),
        ({**NAMES, "image_encoding": "jpeg"}, "policy.image_encoding: expected one of raw"),
    ],
)
def test_a_stock_server_needs_its_own_names_and_raw_images(
    start: Start, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        start(how={"greeting": STOCK}, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "expected a key 'url'"),
        ({"url": []}, "url"),
        ({"url": "http://gpu:8000"}, "expected ws://HOST:PORT or wss://HOST:PORT, got 'http"),
        ({"url": "gpu:8000"}, "expected ws://HOST:PORT"),
        ({"url": "ws://gpu:port"}, "expected ws://HOST:PORT"),
        ({"url": "ws://"}, "expected ws://HOST:PORT"),
        ({"url": "ws://x", "deadline_ms": 0}, "deadline_ms"),
        ({"url": 5}, "policy: url: expected"),
        ({"url": "ws://x", "camera_map": {}}, "camera_map"),
        ({"url": "ws://x", "image_encoding": "png"}, "image_encoding"),
        ({"url": "ws://x", "dead_line": 1}, "did you mean 'deadline_ms'"),
        (
            {"url": "ws://x", "api_key_file": "/nowhere/key"},
            "/nowhere/key: expected a file whose first",
        ),
    ],
)
def test_a_bad_option_is_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        RemotePolicy({}, **options)
    assert words in str(raised.value)
    assert str(raised.value).startswith("policy")


def test_a_name_that_nobody_knows_may_be_known_later() -> None:
    with pytest.raises(NoAnswerError, match=r"expected a machine .* got 'no-such-host") as raised:
        RemotePolicy({}, url="ws://no-such-host.invalid:1")
    assert raised.value.outcome is Outcome.UNREACHABLE


def test_it_has_no_model_and_no_statistics_of_its_own(start: Start) -> None:
    with pytest.raises(ConfigError, match="model: expected none beside type remote_policy"):
        RemotePolicy({"flow": object()}, url="ws://127.0.0.1:1")
    policy, server = start()
    for normalizer in (
        Normalizer(Affine(np.zeros(A), np.ones(A), 0.0), IDENTITY.action),
        Normalizer(IDENTITY.state, IDENTITY.action, np.array([True, False])),
    ):
        with pytest.raises(PolicyError, match="normalised where it runs: take norm_stats_path"):
            policy.predict(observation(), normalizer)
    assert server.requests == []


def test_a_key_is_shown_and_a_wrong_one_told(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with ScriptedServer(key="open sesame, open sesame") as server:
        key.write_text("open sesame, open sesame\n")
        with closing(remote(server.url, api_key_file=str(key))) as policy:
            assert ask(policy) == (Outcome.OK, "0")
        for words in ("open sesamy, open sesamy", None):
            key.write_text(words or "")
            given = {} if words is None else {"api_key_file": str(key)}
            with pytest.raises(NoAnswerError) as raised:
                remote(server.url, **given)
            assert str(raised.value) == (
                f"no policy server at {server.url}: it refused: expected the header "
                "Authorization: Api-Key KEY, got another"
            )
        with pytest.raises(ConfigError, match="expected a key of 16 printable characters"):
            remote(server.url, api_key_file=str(key))


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        ("no room", "the policy server says: no room"),
        (b"\xc1", "expected a msgpack map"),
        (write_offer(msgspec.structs.replace(OFFER, protocol=7)), "speaks protocol 7, this robot"),
        (write_offer(msgspec.structs.replace(OFFER, units="deg")), "an offer of 'deg'"),
        (encode({"rt": [1]}), "a map in 'rt'"),
        (write_offer(msgspec.structs.replace(OFFER, statistics=UNEVEN)), "as many scales as"),
        (write_offer(msgspec.structs.replace(OFFER, statistics=NO_NUMBER)), "finite numbers"),
        (None, "it does not answer"),
    ],
)
def test_a_server_that_offers_nothing_useful_is_refused(greeting: Any, words: str) -> None:
    with ScriptedServer(greeting=greeting) as server, pytest.raises(NoAnswerError) as raised:
        remote(server.url, connect_timeout_s=0.5)
    assert words in str(raised.value)
    assert server.url in str(raised.value)


def test_nobody_there_is_one_sentence() -> None:
    with pytest.raises(NoAnswerError, match=r"python -m rt\.serve -P POLICY\.yaml") as raised:
        remote(f"ws://127.0.0.1:{free_port()}", connect_timeout_s=0.3)
    assert raised.value.outcome == Outcome.UNREACHABLE
    assert isinstance(raised.value, RtError)
    assert raised.value.exit_code == 2


def test_a_server_that_is_still_loading_is_waited_for() -> None:
    port = free_port()
    made: list[RemotePolicy] = []
    url = f"ws://127.0.0.1:{port}"
    thread = threading.Thread(target=lambda: made.append(remote(url, connect_timeout_s=60)))
    thread.start()
    with ScriptedServer(port=port):
        thread.join()
        assert ask(made[0]) == (Outcome.OK, "0")
        made[0].close()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_another_service_is_no_policy_server(scheme: str, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NoAnswerError, match=r"speaks no websocket|it refused"):
            remote(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_a_redirect_is_not_followed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NoAnswerError, match="no policy server at"):
            remote(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_tls_needs_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with ScriptedServer(tls=context) as server:
        with pytest.raises(NoAnswerError, match=r"is not trusted .*: set SSL_CERT_FILE"):
            remote(server.url)
        with pytest.raises(NoAnswerError, match="wss:// where the server has a certificate"):
            remote(server.url.replace("wss", "ws"))
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        with closing(remote(server.url)) as policy:
            assert ask(policy) == (Outcome.OK, "0")


def test_of_several_servers_the_first_that_answers_is_asked() -> None:
    dead = f"ws://127.0.0.1:{free_port()}"
    with ScriptedServer() as server, closing(remote(dead, server.url)) as policy:
        assert ask(policy) == (Outcome.OK, "0")
        assert policy.outcomes[Outcome.UNREACHABLE] == 0


def test_an_observation_beyond_the_server_s_limit_is_told_before_it_is_sent(start: Start) -> None:
    small = msgspec.structs.replace(OFFER, max_message_bytes=1000)
    policy, server = start(how={"greeting": write_offer(small)})
    with pytest.raises(PolicyError, match="takes at most 1000: take image_encoding jpeg"):
        policy.predict(observation() | {"head": np.zeros((1, 3, 20, 20), np.uint8)}, IDENTITY)
    assert server.requests == []
    assert ask(policy) == (Outcome.OK, "0")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, (0, 0, 0, 100)),
        ({"infer_ms": 20.0}, (0, 0, 20, 80)),
        ({"infer_ms": 20.0, "encode_ms": 5.0, "denoise_ms": 13.0, "queue_ms": 4}, (4, 5, 13, 78)),
        ({"queue_ms": 60.0, "denoise_ms": 70.0}, (60, 0, 40, 0)),
        ({"queue_ms": float("inf"), "denoise_ms": float("nan")}, (100, 0, 0, 0)),
        ({"queue_ms": -5.0, "encode_ms": 1e300}, (0, 100, 0, 0)),
    ],
)
def test_what_an_exchange_took_is_shared_out_whatever_the_server_says(
    told: dict[str, float], expected: tuple[int, ...]
) -> None:
    shared = parts(Result(chunk(0), **told), 100_000_000)  # type: ignore[arg-type]
    names = ("queue_ns", "encode_ns", "denoise_ns", "network_ns")
    assert tuple(round(shared[name] / 1e6) for name in names) == expected


def test_the_yaml_that_is_shipped_is_understood() -> None:
    import yaml

    from rt.infer.policies.remote_policy.options import Options

    shipped = yaml.safe_load((ROOT / "configs/policies/remote/policy.yaml").read_text())
    assert shipped["policy"].pop("type") == "remote_policy"
    convert(shipped["policy"], Options, "policy")
