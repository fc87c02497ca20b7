"""A policy server that does what a test tells it, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from rt.wire.codec import decode
from rt.wire.offer import Offer, write_offer
from rt.wire.protocol import Result, write_result

H, A = 8, 2
OFFER = Offer(
    version="0.1.0",
    policy="scripted.yaml",
    policy_type="scripted",
    modes=("sequential", "naive", "blend", "temporal_ensembling", "rtc", "prefix"),
    dims={"action_horizon": H, "action_dim": A},
)


class Break(Exception):  # noqa: N818 (it is an order)
    """The script breaks the connection: with this code, or without a word."""

    def __init__(self, code: int | None = None) -> None:
        self.code = code


Script = Callable[[int, dict[str, Any]], Iterable[bytes | str]]


def chunk(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Of request n: each value tells which it is."""
    rows = np.arange(H)[:, None] + np.arange(A) / 100
    return np.asarray((n + 1) * 1000 + rows, np.float32)


def result(n: int, request: dict[str, Any], **fields: Any) -> bytes:
    """A good answer to request n."""
    return write_result(Result(chunk(n), number=request.get("number"))._replace(**fields))


def answering(n: int, request: dict[str, Any]) -> Iterable[bytes | str]:
    """The script that answers each."""
    return [result(n, request)]


class ScriptedServer:
    """Use as a context manager. `script(n, request)` gives what is sent when request n comes: no
    frame, or several, or it raises Break.

    greeting: the first frame; None: nothing ever comes. key: what a handshake must have.
    """

    def __init__(
        self,
        script: Script = answering,
        *,
        greeting: bytes | str | None = write_offer(OFFER),
        key: str = "",
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.script, self.greeting, self._key, self._tls = script, greeting, key, tls
        self.requests: list[dict[str, Any]] = []  # of all connections
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'ws' if tls is None else 'wss'}://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        """May be called before: the server is gone."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()
            self._loop.close()

    def push(self, frame: bytes) -> None:
        """Send a frame that nobody asked for, on the newest connection."""
        asyncio.run_coroutine_threadsafe(self._newest.send(frame), self._loop).result(10)

    async def _run(self) -> None:
        self._end = asyncio.Event()
        async with serve(
            self._serve,
            sock=self._socket,
            ssl=self._tls,
            compression=None,
            process_request=self._admit,
            close_timeout=0.1,
        ):
            self._listening.set()
            await self._end.wait()

    def _admit(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        if self._key and request.headers.get("Authorization") != f"Api-Key {self._key}":
            words = "expected the header Authorization: Api-Key KEY, got another\n"
            return connection.respond(HTTPStatus.UNAUTHORIZED, words)
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections += 1
        self._newest = connection
        with contextlib.suppress(ConnectionClosed):
            if self.greeting is not None:
                await connection.send(self.greeting)
            async for message in connection:
                assert isinstance(message, bytes)
                self.requests.append(decode(message))
                try:
                    answers = list(self.script(len(self.requests) - 1, self.requests[-1]))
                except Break as told:
                    await _break(connection, told.code)
                    return
                for answer in answers:
                    await connection.send(answer)


async def _break(connection: ServerConnection, code: int | None) -> None:
    if code is not None:
        await connection.close(code)
        return
    reset = struct.pack("ii", 1, 0)
    raw: socket.socket = connection.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    connection.transport.abort()
