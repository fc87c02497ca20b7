"""One connection to a policy server, made again whenever it is lost.

Guarantees:
  - `ask` gives the answer to its own message, within the deadline, or raises. Answers come in the
    order of the requests, one each: one that comes too late is counted and thrown away unread.
  - `ask` takes no longer than the deadline, or CONNECT_S where it has to connect, and CLOSE_S.
  - After a failure nobody is asked until a wait is over, which doubles and is never the same for
    two robots. Of several servers the next is tried at once.
Assumptions:
  - One thread. (The library has two of its own for each connection. They answer pings.)
  - Names are looked up once: a resolver that is out of reach knows no deadline.
  - websockets 17.3 or newer: before, its reader obeyed the time limit that we set for sending.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable

from websockets.exceptions import WebSocketException as WebSocketError
from websockets.sync.client import ClientConnection, connect

from rt.errors import NoAnswerError, RtError
from rt.infer.policies.remote_policy.address import Server, described, find
from rt.records import Outcome
from rt.wire.offer import MAX_MESSAGE_BYTES
from rt.wire.protocol import MOST_UNDER_WAY

Greet = Callable[[bytes | str], None]

MOST_UNASKED = 8  # frames before a request: whoever floods us would be listened to for ever
CONNECT_S = 3.0  # TCP, TLS, WebSocket and offer: three to five times there and back
CLOSE_S = 0.1  # what the goodbye to a dead connection may take
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
BROKEN = (OSError, WebSocketError, ValueError)  # ValueError: a redirect, to where nobody asked

# What happens to a connection is told by NoAnswerError; the library would log it with a traceback.
SILENT = logging.Logger("rt.remote_policy", level=logging.CRITICAL + 1)


class _Connection(ClientConnection):
    """Can be closed also while its reader is inside a TLS record, which close() does not end."""

    def close_socket(self) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # SSLSocket's ends the TLS too
        super().close_socket()


class Link:
    """Asks one policy server, or the first of several that answers.

    greet: told the first frame of every connection. What it raises ends that connection.
    headers: of the handshake. seed: of how long it waits after a failure.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        deadline_s: float,
        greet: Greet,
        *,
        headers: dict[str, str] | None = None,
        seed: int | None = None,
    ) -> None:
        """Raises ConfigError for a URL that is none, NoAnswerError for a name that nobody knows."""
        self._servers = [server for url in urls for server in find(url)]
        self._deadline_s, self._greet, self._headers = deadline_s, greet, headers or {}
        self._random = random.Random(seed)
        self._stack = contextlib.ExitStack()
        self._connection: ClientConnection | None = None
        self._owed = 0  # requests without an answer
        self._at = 0  # counts on; which server
        self._failures = 0  # since the last answer
        self._not_before = 0.0
        self._why = ""  # the last failure, in words

    @property
    def server(self) -> Server:
        """The one that is asked, or will be."""
        return self._servers[self._at % len(self._servers)]

    @property
    def has_others(self) -> bool:
        """Whether there is another server to ask."""
        return len(self._servers) > 1

    def open(self, patience_s: float) -> None:
        """Connect for the first time, trying for as long as `patience_s`. NoAnswerError."""
        end = time.monotonic() + patience_s
        while self._connection is None:
            try:
                self._connect(min(end, time.monotonic() + CONNECT_S))
            except (WebSocketError, ssl.SSLError, ValueError):  # somebody is there, and says no
                raise NoAnswerError(self._why, Outcome.UNREACHABLE) from None
            except OSError:  # nobody yet, or no way there
                if self._not_before >= end:
                    raise NoAnswerError(self._why, Outcome.UNREACHABLE) from None
            time.sleep(max(self._not_before - time.monotonic(), 0.0))

    def ask(self, write: Callable[[], bytes]) -> bytes | str:
        """The answer to what `write` gives: a result, or a sentence about what was wrong with it.

        Raises NoAnswerError, and what `write` raises, which is called once there is a connection.
        """
        end = time.monotonic() + self._deadline_s
        self._collect()
        if self._owed >= MOST_UNDER_WAY:
            raise self._lost(f"it owes {self._owed} answers")
        connection = self._connection or self._connected(end)
        message = write()
        try:
            # It bounds the whole of a send, which has no time limit of its own.
            connection.socket.settimeout(max(end - time.monotonic(), 0.001))
            connection.send(message)
            self._owed += 1
            while True:
                answer = connection.recv(timeout=max(end - time.monotonic(), 0.0))
                self._owed -= 1
                if not self._owed:
                    self._failures = 0
                    return answer
        except TimeoutError:
            raise self._too_late("no answer") from None
        except BROKEN as error:
            in_time = time.monotonic() < end
            too_late = self._too_late("a request could not be sent")
            lost = self._lost(described(error))
            raise (lost if in_time else too_late) from None

    def drop(self, why: str) -> None:
        """Give this connection up, if there is one."""
        if self._connection is not None:
            self._give_up(why)

    def _give_up(self, why: str) -> None:
        """The next server's turn is now, the first one's after a wait."""
        self.close()
        self._why = why
        self._at += 1
        self._failures += 1
        rounds, inside = divmod(self._failures, len(self._servers))
        wait = 0.0 if inside else min(FIRST_WAIT_S * 2.0 ** min(rounds - 1, 10), LONGEST_WAIT_S)
        self._not_before = time.monotonic() + wait * self._random.uniform(0.5, 1.0)

    def close(self) -> None:
        """End the connection."""
        self._connection, self._owed = None, 0
        with contextlib.suppress(*BROKEN):
            self._stack.close()

    def _collect(self) -> None:
        """Throw away what came before it was asked for: answers that were owed, too late now."""
        try:
            for _ in range(MOST_UNASKED):
                if self._connection is None:
                    return
                self._connection.recv(timeout=0)
                self._owed = max(self._owed - 1, 0)
            raise self._lost("it sends what nobody asked for")
        except TimeoutError:
            pass
        except BROKEN as error:
            self._lost(described(error))  # told by the next attempt

    def _connected(self, end: float) -> ClientConnection:
        """A new connection, for a request that must be answered by `end`. NoAnswerError."""
        if time.monotonic() < self._not_before:
            raise NoAnswerError(self._why, Outcome.UNREACHABLE)
        try:
            connection = self._connect(time.monotonic() + CONNECT_S)
        except BROKEN:
            raise NoAnswerError(self._why, Outcome.UNREACHABLE) from None
        if time.monotonic() >= end:
            why = f"{self.server.url} is connected again, too late for this observation"
            raise NoAnswerError(why, Outcome.UNREACHABLE)
        return connection

    def _connect(self, end: float) -> ClientConnection:
        """A connection that has been greeted. Raises what went wrong, told in `_why`."""
        url, address = self.server
        try:
            left = max(end - time.monotonic(), 0.001)
            connection = self._stack.enter_context(
                connect(
                    url,
                    sock=socket.create_connection(address, timeout=left),
                    additional_headers=self._headers,
                    proxy=None,  # an environment's variable must not send a robot elsewhere
                    compression=None,  # tens of milliseconds for an image
                    open_timeout=max(end - time.monotonic(), 0.001),
                    close_timeout=CLOSE_S,
                    create_connection=_Connection,
                    max_size=MAX_MESSAGE_BYTES,
                    logger=SILENT,
                )
            )
            self._greet(connection.recv(timeout=max(end - time.monotonic(), 0.001)))
        except BROKEN as error:
            self._give_up(f"no policy server at {url}: {described(error)}")
            raise
        except RtError as error:  # what it said
            self._give_up(str(error))
            raise
        self._connection = connection
        return connection

    def _lost(self, how: str) -> NoAnswerError:
        self._give_up(f"the connection to {self.server.url} was lost: {how}")
        return NoAnswerError(self._why, Outcome.LOST)

    def _too_late(self, what: str) -> NoAnswerError:
        limit = f"{1000 * self._deadline_s:g} ms (deadline_ms)"
        return NoAnswerError(f"{self.server.url}: {what} within {limit}", Outcome.TOO_LATE)
