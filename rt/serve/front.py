"""What speaks WebSocket: the offer, then one reply for each request, in order.

Guarantees:
  - Whatever a client sends, or leaves unsent, costs that client: its messages are bounded in number
    and size, its silence in time. The others are served meanwhile.
  - A client's newer request is read while an older one waits or is computed.
  - `close` answers what is being computed before it hangs up.
Assumption: one event loop, which nothing else blocks.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from rt.serve.access import refusal
from rt.serve.desk import DRAIN_S, ENDS, Answers, Client, Reply
from rt.wire.offer import MAX_MESSAGE_BYTES
from rt.wire.protocol import MOST_UNDER_WAY

MOST_CLIENTS = 256
MOST_OPEN = 512  # connections, those that have not asked for anything included: each is a file
OPEN_S = 5.0  # what a client has to ask for something
PING_S = 10.0  # between two pings, and what a client has to answer, or to take a message
ALONE_PING_S = 2.0  # where one robot alone is served: if its connection died it wants in again
CLOSE_S = 1.0  # what it has to say goodbye
STALLED_S = 10.0  # then an inference that is not over is no good health


class Refusal(NamedTuple):
    """Nothing is offered."""

    status: HTTPStatus
    why: str


# By path what is offered there.
Offers = Callable[[str], Awaitable[bytes | Refusal]]


class _Connection(ServerConnection):
    """Hung up on at once while too many are open."""

    offer = b""  # what it is told, once it is let in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.server.handler_tasks) > MOST_OPEN:
            self.transport.abort()


class Front:
    """Serves `answers` to whoever has the key.

    offer: the first frame, wherever somebody comes to; or of each path its own, asked for anew by
    each connection. key: None: everybody. alone: to one client at a time, since the policy carries
    state from chunk to chunk.
    """

    def __init__(
        self,
        answers: Answers,
        offer: bytes | Offers,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self._answers = answers
        self._offer = offer
        self._key = key
        self._tls = tls
        self._most = 1 if alone else MOST_CLIENTS
        self._ping_s = ALONE_PING_S if alone else PING_S
        self._replies: dict[ServerConnection, asyncio.Queue[asyncio.Task[Reply]]] = {}
        self._ending = False
        self._server: Server | None = None

    async def open(self, **where: Any) -> int:
        """Listen, and return the port. where: sock=, or host=, port=, reuse_port=. OSError."""
        quiet = logging.getLogger("rt.serve")  # what strangers send is no event
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        self._server = await serve(
            self._stay,
            **where,
            ssl=self._tls,
            process_request=self._admit,
            origins=[None],  # a browser tells one: no page may ask
            compression=None,  # of images it takes longer than it saves
            max_size=MAX_MESSAGE_BYTES,
            max_queue=MOST_UNDER_WAY,
            open_timeout=OPEN_S,
            ping_interval=self._ping_s,
            ping_timeout=self._ping_s,
            close_timeout=CLOSE_S,
            create_connection=_Connection,
            server_header=None,
            logger=quiet,
        )
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def close(self) -> None:
        """Take no more requests, send the replies that are due, hang up."""
        self._ending = True
        due = [asyncio.create_task(replies.join()) for replies in self._replies.values()]
        if due:
            await asyncio.wait(due, timeout=DRAIN_S)
        for task in due:
            task.cancel()
        assert self._server is not None
        self._server.close(code=CloseCode.SERVICE_RESTART, reason=ENDS)
        await self._server.wait_closed()

    async def _admit(self, client: ServerConnection, request: Request) -> Response | None:
        """None: go on with the WebSocket's handshake."""
        if request.path == "/healthz":
            age_s = self._answers.age_s()
            if age_s > STALLED_S:
                why = f"a request has waited for {age_s:.0f} s\n"
                return client.respond(HTTPStatus.SERVICE_UNAVAILABLE, why)
            return client.respond(HTTPStatus.OK, "OK\n")
        if why := refusal(request.headers.get_all("Authorization"), self._key):
            return client.respond(HTTPStatus.UNAUTHORIZED, why + "\n")
        if self._ending:
            return client.respond(HTTPStatus.SERVICE_UNAVAILABLE, ENDS + "\n")
        if len(self._replies) >= self._most:
            why = f"expected at most {self._most} robots, which are connected: try again later"
            if self._most == 1:
                why += ". This policy carries state from chunk to chunk, so it serves one alone"
            return client.respond(HTTPStatus.SERVICE_UNAVAILABLE, why + "\n")
        offer = self._offer if isinstance(self._offer, bytes) else await self._offer(request.path)
        if isinstance(offer, Refusal):
            return client.respond(offer.status, offer.why + "\n")
        assert isinstance(client, _Connection)
        client.offer = offer
        return None

    async def _stay(self, client: ServerConnection) -> None:
        """One task reads, so that a newer request can replace one that waits; one answers."""
        if len(self._replies) >= self._most:  # it came while another was let in
            await client.close(CloseCode.TRY_AGAIN_LATER, "too many robots are connected")
            return
        replies: asyncio.Queue[asyncio.Task[Reply]] = asyncio.Queue(MOST_UNDER_WAY)
        self._replies[client] = replies
        tasks = [
            asyncio.create_task(self._read(client, replies)),
            asyncio.create_task(self._answer(client, replies)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._replies[client]
            while not replies.empty():
                replies.get_nowait().cancel()
                replies.task_done()
            for task in tasks:
                task.cancel()

    async def _read(
        self, client: ServerConnection, replies: asyncio.Queue[asyncio.Task[Reply]]
    ) -> None:
        assert isinstance(client, _Connection)
        assert client.request is not None
        who = Client(str(client.id), client.request.path, client.offer)
        with suppress(ConnectionClosed):
            await self._send(client, client.offer)
            while True:
                reply = asyncio.create_task(self._answers.ask(who, await client.recv()))
                try:
                    await replies.put(reply)
                except asyncio.CancelledError:
                    reply.cancel()
                    raise

    async def _answer(
        self, client: ServerConnection, replies: asyncio.Queue[asyncio.Task[Reply]]
    ) -> None:
        """Each reply, in the order of the requests."""
        with suppress(ConnectionClosed):
            while True:
                reply = await replies.get()
                try:
                    await self._send(client, await reply)
                finally:
                    replies.task_done()

    async def _send(self, client: ServerConnection, frame: Reply) -> None:
        """Hang up on who does not take it: pings and the goodbye would wait behind it."""
        try:
            async with asyncio.timeout(self._ping_s):
                await client.send(frame)
        except TimeoutError:
            client.transport.abort()
