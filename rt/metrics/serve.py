"""`--metrics_port`: a session's figures, over HTTP, from the supervisor's process.

Guarantees:
  - Whatever is wrong with host, port or package is a sentence before any process is started.
  - Its threads only read rings. What a client does, or leaves undone, costs the client.
Assumptions:
  - Whoever can reach the port may read: there is no password. Hence loopback by default.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, NamedTuple

from rt.cli import port_taken
from rt.config import Config
from rt.errors import ConfigError
from rt.extras import need
from rt.session import Session

if TYPE_CHECKING:
    from rt.metrics.figures import Figures

TEXT = "text/plain; version=0.0.4; charset=utf-8"  # what generate_latest writes
LOOK_S = 0.1  # between two looks at the rings: at 1 kHz the ticks come round in 2 s
CLIENT_S = 5.0  # then one that has not been answered is hung up on
MOST_THREADS = 16  # of this process; a client more is hung up on


class Address(NamedTuple):
    """Where to serve; port 0: nowhere."""

    host: str
    port: int


@contextmanager
def serving(
    address: Address,
    session: Session,
    config: Config,
    restarts: Callable[[], Mapping[str, int]],
) -> Iterator[str]:
    """Serve the session's figures meanwhile. Gives the URL; "" for port 0. restarts: process → how
    often it was restarted.

    Raises MissingPackageError without prometheus-client, ConfigError for a port that is taken or
    none, or a host that is not this one.
    """
    if not address.port:
        yield ""
        return
    need("metrics", "--metrics_port")
    from rt.metrics.figures import Figures  # only now that its package is known to be there

    with (
        _listening(address) as server,
        closing(Figures(session, config, restarts)) as server.figures,
    ):
        threading.Thread(target=server.serve_forever, args=(LOOK_S,), name="metrics").start()
        try:
            host = server.server_address[0]
            yield f"http://{f'[{host}]' if ':' in host else host}:{address.port}/metrics"
        finally:
            server.shutdown()  # returns when it serves no more


def _listening(address: Address) -> _Server:
    """Clients may connect from now on; they wait until it serves."""
    host, port = address
    if not 0 < port < 65536:
        raise ConfigError(f"--metrics_port: expected 1 to 65535, or 0 for none, got {port}")
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _Server(family, where)
    except (OSError, UnicodeError) as error:
        raise _refusal(address, error) from None


def _refusal(address: Address, error: OSError | UnicodeError) -> ConfigError:
    host, port = address
    number, why = getattr(error, "errno", 0), getattr(error, "strerror", None) or error
    if isinstance(error, UnicodeError | socket.gaierror) or number == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"--metrics_host: expected an address of this machine, e.g. 127.0.0.1 or 0.0.0.0, got "
            f"{host!r} ({why})"
        )
    return port_taken(host, port, error, place="--metrics_port", mend="choose another")


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True  # a port that a run before this one left a moment ago
    daemon_threads = True
    server_address: Any  # host and port first, whatever the family
    figures: Figures

    def __init__(self, family: socket.AddressFamily, where: Any) -> None:
        self.address_family = family
        self._since: dict[Any, float] = {}  # by client, from when on
        super().__init__(where, _Handler)

    def service_actions(self) -> None:
        """Called by `serve_forever`, every LOOK_S or more often."""
        self.figures.update()
        for request, since in self._since.copy().items():
            if time.monotonic() - since > CLIENT_S:
                with suppress(OSError):  # it has gone by itself
                    request.shutdown(socket.SHUT_RDWR)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self._since[request] = time.monotonic()
        return threading.active_count() < MOST_THREADS

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no event; anything else is a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_S

    def do_GET(self) -> None:
        """All families, as text."""
        from prometheus_client import generate_latest

        if self.path.partition("?")[0] not in ("/", "/metrics"):
            self.send_error(404, "the figures are at /metrics")
            return
        body = generate_latest(self.server.figures)
        self.send_response(200)
        self.send_header("Content-Type", TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the launch's lines are for the session."""
