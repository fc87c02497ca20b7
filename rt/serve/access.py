"""Where a policy is served, and to whom: what is refused before a policy is loaded, or a request
read."""

from __future__ import annotations

import hmac
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from rt.cli import listening_address, port_taken
from rt.errors import ConfigError

SCHEME = "Api-Key "  # of the header Authorization, as openpi's client sends it


def bind(host: str, port: int, key: str | None) -> socket.socket:
    """The server's socket, which does not listen yet: a port on which somebody listens is told
    before a policy is loaded, and nobody is let in before it is warm. port 0: any that is free.

    Raises ConfigError for a host that is not this machine's, one beyond loopback without a key, and
    a port that is taken.
    """
    mend = "pass --api_key_file KEY here and in the robot's policy YAML"
    address = listening_address(host, port, key, name="key", mend=mend)
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise port_taken(host, port, error) from None
    return bound


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Of --tls_cert and --tls_key, both PEM. Raises ConfigError for one without the other, and for
    what is no certificate or not its key."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("expected both --tls_cert and --tls_key, got one of them: pass both")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password: a key that wants one is an error, and no question on the terminal.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--tls_cert {cert}: expected a PEM certificate, and its unencrypted key in "
            f"--tls_key {key}, got: {why}"
        ) from None
    return context


def refusal(authorizations: Sequence[str], key: str | None) -> str:
    """Why a client is not let in; "": it is. authorizations: the headers of that name."""
    if key is None:
        return ""
    if len(authorizations) != 1 or not authorizations[0].startswith(SCHEME):
        return "expected the header 'Authorization: Api-Key KEY': pass api_key_file"
    given = authorizations[0].removeprefix(SCHEME).strip()
    # In a time that does not tell how much of it is right.
    right = hmac.compare_digest(given.encode(errors="replace"), key.encode())
    return "" if right else "wrong key: it is not the one in the server's --api_key_file"
