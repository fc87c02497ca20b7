"""Where a policy server is, and what it means that it cannot be reached."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from websockets.exceptions import InvalidHandshake, InvalidStatus

from rt.errors import ConfigError, NoAnswerError
from rt.records import Outcome

PORTS = {"ws": 80, "wss": 443}


class Server(NamedTuple):
    """A URL, and one of the addresses that its name had at the start."""

    url: str
    address: tuple[str, int]


def find(url: str) -> list[Server]:
    """Every address that the URL's name has.

    Raises ConfigError for what is no such URL, NoAnswerError for a name that nobody knows now.
    """
    try:
        parts = urlsplit(url)
        host, default = parts.hostname, PORTS[parts.scheme]
        port = parts.port or default
    except (ValueError, KeyError):
        host = None
    if not host:
        raise ConfigError(f"policy.url: expected ws://HOST:PORT or wss://HOST:PORT, got {url!r}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise NoAnswerError(
            f"policy.url: expected a machine that can be found, got {host!r} ({why}): mend the "
            "name, or give its address",
            Outcome.UNREACHABLE,
        ) from None
    return [Server(url, (str(address[0]), port)) for *_, address in found]


def described(error: Exception) -> str:
    """What happened to a connection, and what mends it where that is known."""
    match error:
        case InvalidStatus():
            said = bytes(error.response.body or b"").decode(errors="replace").strip()
            return f"it refused: {said or f'HTTP status {error.response.status_code}'}"
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted ({error.verify_message}): set SSL_CERT_FILE in "
                "the environment to the file that it was started with, and use the name in it"
            )
        case InvalidHandshake() | ssl.SSLError():
            return (
                "what answers there speaks no websocket: is the port right, and is it wss:// where "
                "the server has a certificate, ws:// where it has none?"
            )
        case ConnectionRefusedError():
            return (
                "connection refused: start one with python -m rt.serve -P POLICY.yaml, or mend "
                "policy.url"
            )
        case TimeoutError():
            return "it does not answer"
        case _:
            return f"{error}" or type(error).__name__
