"""The web view's server: a page, and a WebSocket over which it is told what is new.

Guarantees:
  - Read-only: nothing that a client says is looked at, but for its request.
  - A client that does not keep up misses messages, and is hung up on in the end: it holds up no
    other client, and costs a bounded amount of memory.
Assumptions:
  - One event loop; the feed is read in it, so that its rings are never read from two threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as listen
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from rt.web.access import SOCKET, refusal
from rt.web.feed import Feed
from rt.web.pictures import Pictures

PERIOD_S = 0.1  # between two messages
LOOKS = 5  # periods between two looks at everything
MOST_CLIENTS = 16
MOST_BYTES = 2_000_000  # waiting for a client; then it misses messages
PATIENCE_S = 10.0  # with one that has missed all of them
CLOSE_S = 1.0  # what a client has to say goodbye
OPEN_S = 3.0  # and what it has to ask for something
MOST_OPEN = 64  # connections, those that have not asked for anything included: each is a file

_PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_FILES = ("index.html", "page.js", "page.css", "uplot/uPlot.iife.min.js", "uplot/uPlot.min.css")
# Its own files, its own socket and the pictures that it makes of what came: nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Connection(ServerConnection):
    """Hung up on at once while too many are open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.server.handler_tasks) > MOST_OPEN:
            self.transport.abort()


class Server:
    """Serves one session to those who may see it."""

    def __init__(self, feed: Feed, pictures: Pictures, token: str | None) -> None:
        self._feed = feed
        self._pictures = pictures
        self._token = token
        self._clients: dict[ServerConnection, float] = {}  # and when each last had room
        self._files = {
            f"/{name}": (_KINDS[Path(name).suffix], (_PAGE / name).read_bytes()) for name in _FILES
        }
        self._files["/"] = self._files["/index.html"]

    async def run(self, host: str, port: int, started: Callable[[int], None]) -> None:
        """Serve until the session has ended, or this is cancelled. started: is given the port.

        Raises OSError when the port cannot be had.
        """
        quiet = logging.getLogger("rt.web")  # what strangers send is no event
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        async with listen(
            self._stay,
            host,
            port,
            process_request=self._answer,
            compression=None,
            max_size=1024,
            max_queue=1,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            create_connection=_Connection,
            server_header=None,
            logger=quiet,
        ) as listening:
            started(next(iter(listening.sockets)).getsockname()[1])
            await self._tell()

    async def _tell(self) -> None:
        periods = 0
        while self._feed.follow():
            if ready := list(self._ready()):
                broadcast(ready, self._feed.joints().decode())
                if periods % LOOKS == 0:
                    broadcast(ready, self._feed.look().decode())
                _send_all(ready, self._pictures.new())
            periods += 1
            await asyncio.sleep(PERIOD_S)
        end = msgspec.json.encode({"ended": self._feed.ended()}).decode()
        for last in (self._feed.joints().decode(), self._feed.look().decode(), end):
            broadcast(self._clients, last)

    def _ready(self) -> Iterator[ServerConnection]:
        now = time.monotonic()
        for client, had_room in list(self._clients.items()):
            if client.transport.get_write_buffer_size() <= MOST_BYTES:
                self._clients[client] = now
                yield client
            elif now - had_room > PATIENCE_S:
                client.transport.abort()

    async def _stay(self, client: ServerConnection) -> None:
        # Without a wait in between, so that what comes next is what follows the hello.
        broadcast([client], self._feed.hello().decode())
        _send_all([client], self._pictures.newest())
        self._clients[client] = time.monotonic()
        try:
            while True:  # what is not taken would hide from us that it has gone
                await client.recv()
        except ConnectionClosed:
            pass
        finally:
            del self._clients[client]

    def _answer(self, client: ServerConnection, request: Request) -> Response | None:
        """None: go on with the WebSocket's handshake."""
        hosts, origins = (request.headers.get_all(name) for name in ("Host", "Origin"))
        refused = refusal(request.path, hosts, origins, self._token)
        if refused is not None:
            return _response(refused.status, "text/plain", refused.why.encode() + b"\n")
        path = request.path.partition("?")[0]
        if path in self._files:
            return _response(HTTPStatus.OK, *self._files[path])
        if path != SOCKET:
            return _response(HTTPStatus.NOT_FOUND, "text/plain", b"the page is at /\n")
        if len(self._clients) >= MOST_CLIENTS:
            why = f"{MOST_CLIENTS} are looking already\n".encode()
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", why)
        return None


def _send_all(clients: Iterable[ServerConnection], messages: Iterable[bytes]) -> None:
    for message in messages:
        broadcast(clients, message)


def _response(status: HTTPStatus, kind: str, body: bytes) -> Response:
    headers = {
        "Content-Type": f"{kind}; charset=utf-8",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Connection": "close",
    }
    return Response(status, status.phrase, Headers(headers), body)
