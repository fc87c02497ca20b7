"""Where requests wait while the engine computes.

Guarantees:
  - A client has one place, and what is in it is its newest request: an older one that still waits
    is answered with `REPLACED`, and nobody else's turn is lost by it.
  - A batch is made of what waits when the engine is free, in the order in which the clients came.
  - The engine runs in one thread of its own, and never twice at a time; the event loop goes on.
  - Every request is answered once, whatever the engine raises. What waits is bounded.
Assumptions:
  - One event loop; a client asks in the order of its requests.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

from rt.wire.protocol import REPLACED

PLACES = 256  # clients that may wait
MAX_BATCH, MOST_BATCH = 8, 16  # by default; what rt.infer.cuda_graph keeps recordings for
DRAIN_S = 5.0  # what a computation has to end, when the server does
ENDS = "the policy server is ending: ask again later"

Reply = bytes | str  # a result, or a sentence


class Client(NamedTuple):
    """Who asks. name: of its connection. path: of its URL. offer: what it was told is there."""

    name: str
    path: str
    offer: bytes


class Asked(NamedTuple):
    """A request as it came."""

    client: Hashable
    message: bytes | str
    t_asked: float  # s, time.perf_counter()


class Answers(Protocol):
    """Whatever answers requests: a desk here, or elsewhere."""

    async def ask(self, client: Client, message: bytes | str) -> Reply:
        """Its reply. Raises nothing but CancelledError."""

    def age_s(self) -> float:
        """How long the oldest request that is not answered has been here."""


class Desk:
    """Answers requests with an engine that computes up to `most` of them together.

    answer: gives a reply for each of its requests, in their order.
    thread: an executor with one thread.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Asked]], list[Reply]],
        most: int,
        thread: Executor,
    ) -> None:
        self._answer = answer
        self._most = most
        self._thread = thread
        self._waiting: OrderedDict[Hashable, tuple[Asked, asyncio.Future[Reply]]] = OrderedDict()
        self._computed: list[Asked] = []
        self._task: asyncio.Task[None] | None = None
        self._closed: Reply = ""

    async def ask(self, client: Hashable, message: bytes | str) -> Reply:
        """The reply to a client's newest request. A client that is cancelled gives up its place."""
        if self._closed:
            return self._closed
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if client in self._waiting:
            _tell(self._waiting[client][1], REPLACED)
        elif len(self._waiting) >= PLACES:
            return f"{PLACES} robots wait for the policy server already: ask again later"
        self._waiting[client] = Asked(client, message, time.perf_counter()), reply
        if self._task is None:
            self._task = asyncio.create_task(self._compute())
        try:
            return await reply
        except asyncio.CancelledError:
            if client in self._waiting and self._waiting[client][1] is reply:
                del self._waiting[client]
            raise

    def age_s(self) -> float:
        """How long the oldest request that is not answered has been here."""
        asked = [*self._computed, *(asked for asked, _ in self._waiting.values())]
        return time.perf_counter() - min((a.t_asked for a in asked), default=time.perf_counter())

    async def close(self, why: str) -> None:
        """Answer what waits, and what comes, with `why`; returns once what is being computed is
        answered."""
        self._closed = why
        while self._waiting:
            _tell(self._waiting.popitem()[1][1], why)
        if self._task is not None:
            await self._task

    async def _compute(self) -> None:
        while self._waiting:
            size = min(self._most, len(self._waiting))
            taken = [self._waiting.popitem(last=False)[1] for _ in range(size)]
            self._computed = [asked for asked, _ in taken]
            for (_, reply), answer in zip(taken, await self._answers(), strict=True):
                _tell(reply, answer)
        self._computed, self._task = [], None

    async def _answers(self) -> list[Reply]:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._answer, self._computed)
            return [answer for answer, _ in zip(answers, self._computed, strict=True)]
        except Exception as error:  # an engine answers its policy's own: this is a fault of ours
            traceback.print_exception(error, file=sys.stderr)
            return [f"the policy server failed: {type(error).__name__}"] * len(self._computed)


def _tell(reply: asyncio.Future[Reply], said: Reply) -> None:
    if not reply.done():  # its client has gone
        reply.set_result(said)
