"""The web view's server: what it tells and to whom, whoever asks and however it ends."""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import pytest
from launched import run_module, until
from shown_session import Shown
from web_view import TOKEN, a_session, show_frames, viewing
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from rt import extras, inspect
from rt.errors import ConfigError, MissingPackageError
from rt.records import Hold
from rt.web import server
from rt.web.access import refusal
from rt.web.feed import DRAWN_HZ, Feed
from rt.web.pictures import Pictures
from rt.web.server import Server

PATIENCE_S = 60.0


class Served:
    """A server in a thread of this process."""

    def __init__(self, shown: Shown, token: str | None = None) -> None:
        self._shown = shown
        self._token = token
        self._ports: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        session = self._shown.session
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        cameras = self._shown.config.params.camera_names
        with closing(Feed(session)) as feed, closing(Pictures(session, cameras)) as pictures:
            self.server = Server(feed, pictures, self._token)
            try:
                await self.server.run("127.0.0.1", 0, self._ports.put)
            except asyncio.CancelledError:
                return

    def connect(self, query: str = "", **options: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}/ws{query}", **options)

    def get(self, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())

    def ended(self) -> bool:
        self._thread.join(PATIENCE_S)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._ports.get(timeout=PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            assert self._task is not None
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


@pytest.fixture
def shown() -> Iterator[Shown]:
    with a_session() as shown:
        yield shown


@pytest.fixture
def served(shown: Shown) -> Iterator[Served]:
    with Served(shown) as served:
        yield served


def told(client: ClientConnection, part: str, wanted: Callable[[Any], bool] = bool) -> Any:
    """The first `part` that is as wanted."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = client.recv(timeout=PATIENCE_S)
        if isinstance(message, str):
            parts = json.loads(message, parse_constant=pytest.fail)  # no NaN: it is no JSON
            if part in parts and wanted(parts[part]):
                return parts[part]
    raise AssertionError(f"waited in vain for {part}")


def picture(client: ClientConnection) -> tuple[int, Any]:
    """The next one: its camera's number, and the image (H, W, 3) as OpenCV has it."""
    deadline = time.monotonic() + PATIENCE_S
    while isinstance(message := client.recv(timeout=PATIENCE_S), str):
        assert time.monotonic() < deadline, "waited in vain for a picture"
    return message[0], cv2.imdecode(np.frombuffer(message[1:], np.uint8), cv2.IMREAD_COLOR)


def test_whoever_comes_is_told_all_that_was(shown: Shown, served: Served) -> None:
    with shown.session.reader("tick") as ring, shown.session.reader("chunk") as chunk_ring:
        ticks = np.zeros(ring.head, ring.dtype)
        ring.read_window(ticks, len(ticks))
        chunks = np.zeros(chunk_ring.head, chunk_ring.dtype)
        chunk_ring.read_window(chunks, len(chunks))
    with served.connect() as client:
        hello = json.loads(client.recv())
    assert hello["session"]["joints"] == list(shown.config.joint_names)
    assert hello["session"]["cameras"] == ["head", "wrist"]
    joints = hello["joints"]
    assert joints["tick"] == ticks["tick"].tolist()
    for name, field in (("measured", "state"), ("commanded", "command")):
        assert np.allclose(joints[name], np.rad2deg(ticks[field]).T, atol=0.006)
    used = {int(t["chunk"]): int(t["chunk_first_used_tick"]) for t in ticks if t["chunk"] >= 0}
    assert len(used) > 3
    assert {c["id"]: c["first_used_tick"] for c in joints["chunks"]} == used
    for chunk in joints["chunks"]:
        record = chunks[chunk["id"]]
        assert chunk["first_tick"] == record["first_tick"]
        assert np.allclose(chunk["weights"], record["weights"], atol=0.001)
    look = hello["look"]
    late_us = (ticks["t_wake"] - ticks["t_due"]) / 1e3
    counts = np.histogram(late_us, [-1e9, *look["jitter"]["edges_us"], 1e12])[0]
    assert sum(look["jitter"]["counts"]) == len(ticks)
    assert look["jitter"]["counts"] == counts.tolist()
    held = [Hold(int(hold)).name for hold in ticks["hold"] if hold]
    assert look["holds"] == {name: held.count(name) for name in held}
    assert {p["name"] for p in look["processes"]} == {"supervisor", "control", "inference", "sim"}
    assert any("chunk 4 came late" in event["words"] for event in look["events"])
    assert look["events"][-1]["tick"] >= look["events"][0]["tick"]


def test_each_tick_is_told_once_in_order(shown: Shown, served: Served) -> None:
    with served.connect() as client:
        hello = json.loads(client.recv())
        ticks = hello["joints"]["tick"]
        last = ticks[-1]
        for _ in range(5):
            shown.again(state=np.deg2rad(12.5))
            shown.again(command=np.nan)
            new = told(client, "joints", lambda joints: joints["tick"])
            ticks += new["tick"]
            while ticks[-1] < last + 2:
                ticks += told(client, "joints", lambda joints: joints["tick"])["tick"]
            last += 2
    assert new["measured"][3][-1] == 12.5
    assert new["commanded"][3][-1] is None, "NaN"
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    with served.connect() as later:
        assert json.loads(later.recv())["joints"]["tick"] == ticks


def test_a_fast_loop_is_thinned_out_evenly() -> None:
    with a_session(300, HZ=400.0) as shown, Served(shown) as served, served.connect() as client:
        ticks = json.loads(client.recv())["joints"]["tick"]
    assert len(ticks) > 10
    assert set(np.diff(ticks)) == {400 // DRAWN_HZ}


def test_how_it_is_now_is_told_again_and_again(shown: Shown, served: Served) -> None:
    with served.connect() as client:
        shown.again(hold=Hold.ROBOT_FAULT, why=b"<b>too hot</b>", row=np.nan)
        shown.publish("chunk", weights=np.float32(np.nan))
        hot = told(client, "look", lambda look: look["tick_stats"]["hold"] == "ROBOT_FAULT")
        assert hot["tick_stats"]["why"] == "<b>too hot</b>"
        assert "<b>too hot</b>" in hot["events"][-1]["words"]
        shown.tell("sim", b"failed", b"no scene")
        told(client, "look", lambda look: look["processes"][-1]["detail"] == "no scene")


def test_each_cameras_new_frames_come_with_their_colours(shown: Shown, served: Served) -> None:
    with served.connect() as client:
        first = dict(picture(client) for _ in range(2))
        assert first.keys() == {0, 1}
        show_frames(shown, brightness=200)
        second: dict[int, Any] = {}
        while len(second) < 2:
            number, image = picture(client)
            if image[..., 0].mean() > first[number][..., 0].mean() + 50:  # the first may come twice
                second[number] = image
    for image in (first[0], second[1]):
        blue, green, red = (image[..., channel].astype(int) for channel in range(3))
        assert image.shape == (120, 160, 3)
        assert red[:, -10:].mean() > red[:, :10].mean() + 200
        assert green[-10:].mean() > green[:10].mean() + 200
        assert blue.std() < 20
    assert second[0][..., 0].mean() == pytest.approx(first[0][..., 0].mean() + 140, abs=20)


def test_a_frame_is_shown_to_each_who_comes_and_not_again_and_again(served: Served) -> None:
    for _ in range(2):
        with served.connect() as client:
            assert {picture(client)[0], picture(client)[0]} == {0, 1}
            messages = [client.recv(timeout=PATIENCE_S) for _ in range(20)]
            assert sum(isinstance(message, bytes) for message in messages) <= 2


def test_the_end_is_told_and_is_the_last_word(shown: Shown, served: Served) -> None:
    shown.tell("sim", b"failed", b"no scene")
    with served.connect() as client:
        shown.again()
        shown.release_lock()
        sentence = told(client, "ended")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=PATIENCE_S)
    assert sentence == f"session {shown.session.name!r} has ended at tick 120; sim failed: no scene"
    assert served.ended()


HOST = "127.0.0.1:8321"
OWN = f"http://{HOST}"


@pytest.mark.parametrize(
    ("target", "hosts", "origins", "token", "status"),
    [
        ("/", [HOST], [], None, None),
        ("/ws", [HOST], [], None, None),
        ("/ws", [HOST], [OWN], None, None),
        ("/", ["localhost"], [], None, None),
        ("/", ["[::1]:80"], [], None, None),
        ("/ws", [HOST], ["http://evil.example"], None, HTTPStatus.FORBIDDEN),
        ("/ws", [HOST], ["null"], None, HTTPStatus.FORBIDDEN),
        ("/ws", [HOST], ["http://[", OWN], None, HTTPStatus.BAD_REQUEST),
        ("/ws", [HOST], ["http://["], None, HTTPStatus.FORBIDDEN),
        ("/ws", [HOST], ["http://127.0.0.1:9999"], None, HTTPStatus.FORBIDDEN),
        ("/", ["evil.example:8321"], [], None, HTTPStatus.FORBIDDEN),
        ("/ws", ["evil.example"], ["http://evil.example"], None, HTTPStatus.FORBIDDEN),
        ("/ws", ["127.0.0.1.evil.example"], [], None, HTTPStatus.FORBIDDEN),
        ("/", [], [], None, HTTPStatus.BAD_REQUEST),
        ("/", [HOST, "evil.example"], [], None, HTTPStatus.BAD_REQUEST),
        ("//[", [HOST], [], None, HTTPStatus.BAD_REQUEST),
        ("/", ["robot.lan"], [], TOKEN, None),
        ("/ws", ["robot.lan"], [], TOKEN, HTTPStatus.UNAUTHORIZED),
        ("/ws?token=", ["robot.lan"], [], TOKEN, HTTPStatus.UNAUTHORIZED),
        ("/ws?token=%ff%00é\ud800", ["robot.lan"], [], TOKEN, HTTPStatus.UNAUTHORIZED),
        (f"/ws?token={TOKEN}x", ["robot.lan"], [], TOKEN, HTTPStatus.UNAUTHORIZED),
        (f"/ws?token={TOKEN}", ["robot.lan"], [], TOKEN, None),
        (f"/ws?token={TOKEN}", ["robot.lan"], ["http://robot.lan"], TOKEN, None),
        (f"/ws?token={TOKEN}", ["robot.lan"], ["http://evil"], TOKEN, HTTPStatus.FORBIDDEN),
    ],
)
def test_who_may_see_it(
    target: str, hosts: list[str], origins: list[str], token: str | None, status: HTTPStatus | None
) -> None:
    refused = refusal(target, hosts, origins, token)
    assert (refused and refused.status) == status


def test_strangers_are_refused_over_the_wire(shown: Shown, served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused, served.connect(origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == HTTPStatus.FORBIDDEN
    assert served.get("/", Host="evil.example")[0] == HTTPStatus.FORBIDDEN
    with served.connect(origin=f"http://127.0.0.1:{served.port}") as client:
        assert told(client, "session")


def test_a_token_opens_the_socket_and_nothing_else_does(shown: Shown) -> None:
    with Served(shown, TOKEN) as served:
        assert served.get("/", Host="robot.lan")[0] == HTTPStatus.OK
        for query in ("", "?token=", f"?token={TOKEN[:-1]}"):
            with pytest.raises(InvalidStatus) as refused, served.connect(query):
                pass
            assert refused.value.response.status_code == HTTPStatus.UNAUTHORIZED
        with served.connect(f"?token={TOKEN}") as client:
            assert told(client, "session")


def test_the_page_and_its_parts_are_all_that_is_served(served: Served) -> None:
    status, page, headers = served.get("/")
    assert status == HTTPStatus.OK
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for path in ("/page.js", "/page.css", "/uplot/uPlot.iife.min.js", "/uplot/uPlot.min.css"):
        assert f'"{path}"'.encode() in page
        assert served.get(path)[0] == HTTPStatus.OK
    for path in ("/../serve.py", "/%2e%2e/serve.py", "/uplot/LICENSE", "/x", "/index.html/"):
        assert served.get(path)[0] == HTTPStatus.NOT_FOUND
    assert served.get("/ws")[0] == HTTPStatus.UPGRADE_REQUIRED


def test_the_page_needs_nothing_from_elsewhere() -> None:
    folder = Path(server.__file__).parent / "page"
    for name in ("index.html", "page.css", "page.js"):
        text = (folder / name).read_text()
        assert "//" not in text.replace("// ", "")
    assert "Leon Sorokin" in (folder / "uplot/LICENSE").read_text()


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x00" * 4000,
    ],
)
def test_junk_is_hung_up_on_and_nobody_else_notices(
    served: Served, junk: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with served.connect() as client:
        with socket.create_connection(("127.0.0.1", served.port), PATIENCE_S) as stranger:
            stranger.sendall(junk)
            stranger.shutdown(socket.SHUT_WR)
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        client.recv()
        assert told(client, "look")
    assert capfd.readouterr() == ("", "")


def test_what_a_client_says_changes_nothing(shown: Shown, served: Served) -> None:
    with shown.session.reader("command") as orders, served.connect() as client:
        for word in ("stop", '{"order": "STOP"}', b"\x03\x00"):
            client.send(word)
        assert told(client, "look")
        assert orders.head == 0
    with served.connect() as client:
        client.send("x" * 2000)
        with pytest.raises(ConnectionClosed) as closed:
            told(client, "look", lambda look: False)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009, "too big"


def test_a_client_that_never_reads_is_hung_up_on_and_holds_up_nobody(
    shown: Shown, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_BYTES", 0)
    monkeypatch.setattr(server, "PATIENCE_S", 0.5)
    monkeypatch.setattr(server, "PERIOD_S", 0.005)  # so that what the kernel holds is full soon
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    head = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    with served.connect() as client, socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        silent.connect(("127.0.0.1", served.port))
        silent.sendall((head + key).encode())
        clients = served.server._clients
        until("two clients", lambda: len(clients) == 2)

        def is_alone() -> bool:
            show_frames(shown)
            shown.again()
            told(client, "look")  # it is still told
            return len(clients) == 1

        until("the silent one is gone", is_alone)
        assert told(client, "look")


def test_more_than_a_few_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CLIENTS", 2)
    with ExitStack() as opened:
        for _ in range(2):
            told(opened.enter_context(served.connect()), "session")
        with pytest.raises(InvalidStatus) as refused, served.connect():
            pass
        assert refused.value.response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    until("they are gone", lambda: not served.server._clients)
    with served.connect() as client:
        assert told(client, "session")


def test_its_session_ends_and_so_does_the_program(shown: Shown) -> None:
    with viewing(shown.session.name) as view:
        shown.release_lock()
        code, said, complaints = view.end()
    assert (code, complaints) == (0, "")
    assert said == f"session {shown.session.name!r} has ended at tick 119\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_stopped_and_the_session_goes_on(shown: Shown, number: signal.Signals) -> None:
    with viewing(shown.session.name) as view, connect(_socket(view.url)) as client:
        told(client, "look")
        view.process.send_signal(number)
        code, said, complaints = view.end()
    assert (code, complaints) == (0, "")
    assert said == f"no longer shown: session {shown.session.name!r} goes on\n"


def _socket(url: str) -> str:
    return url.replace("http", "ws") + "ws"


def test_a_port_in_use_is_told_in_a_sentence(shown: Shown) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--session", shown.session.name, "--web", "--port", port)
        ended = run_module("rt.inspect", *flags)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"--port: expected a free port of 127.0.0.1, got {port} (")
    assert len(ended.stderr.splitlines()) == 1


def with_token(folder: Path, content: bytes) -> list[str]:
    (folder / "TOKEN").write_bytes(content)
    return ["--token_file", str(folder / "TOKEN")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_beyond_this_machine_a_token_is_needed(shown: Shown, host: str) -> None:
    with pytest.raises(ConfigError, match=rf"--host {host}: beyond .* pass --token_file TOKEN"):
        inspect.main(["--session", shown.session.name, "--web", "--port=0", "--host", host])


def test_beyond_this_machine_it_is_shown_to_whoever_has_the_token(
    shown: Shown, tmp_path: Path
) -> None:
    flags = with_token(tmp_path, TOKEN.encode() + b"\nanother line\n")
    with viewing(shown.session.name, "--host=0.0.0.0", *flags) as view:
        address, fragment = view.url.split("#")
        assert fragment == f"token={TOKEN}"
        port = address.rstrip("/").rsplit(":", 1)[1]
        with connect(f"ws://127.0.0.1:{port}/ws?token={TOKEN}") as client:
            assert told(client, "session")
        with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{port}/ws"):
            pass


@pytest.mark.parametrize(
    "content", [b"", b"short\n", b"\n" + TOKEN.encode(), b"a\x07" * 20, b"\xff" * 20]
)
def test_a_token_that_is_no_good_is_refused(shown: Shown, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"--token_file .*TOKEN: expected a "):
        inspect.main(["--session", shown.session.name, "--web", *with_token(tmp_path, content)])


def test_a_token_file_that_is_not_there_is_told(shown: Shown, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file whose first line is the token"):
        inspect.main(["--session", shown.session.name, "--web", "--token_file", str(tmp_path)])


@pytest.mark.parametrize("host", ["", "no such host", "x" * 300, "é" * 80])
def test_a_host_that_is_none_is_told(shown: Shown, host: str) -> None:
    with pytest.raises(ConfigError, match="--host: expected a name or an address of this machine"):
        inspect.main(["--session", shown.session.name, "--web", "--port=0", "--host", host])


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_told(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect.main(["--web", "--port", port])
    assert ended.value.code == 2
    assert "--port: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "package"), [("websockets", "websockets"), ("cv2", "opencv-python-headless")]
)
def test_a_missing_package_is_told_with_the_command_that_installs_it(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(MissingPackageError, match=rf"--web needs {package}: .*\[web\]"):
        inspect.main(["--session", shown.session.name, "--web"])
