"""Who may see a session: asked before a connection becomes a WebSocket.

Guarantees:
  - Without a token only a page that this machine itself serves, by a loopback name, gets anything:
    no other web site, not even one whose name was made to resolve to this machine.
  - With a token the page is for all, as it says nothing of the robot; the WebSocket is for whoever
    has the token.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

SOCKET = "/ws"
PORT = re.compile(r":\d+$")
LOOPBACK_NAME = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]")


class Refusal(NamedTuple):
    """An answer instead of what was asked for."""

    status: HTTPStatus
    why: str


def refusal(
    target: str, hosts: Sequence[str], origins: Sequence[str], token: str | None
) -> Refusal | None:
    """Why a request is refused; None: it is not. target: of the request, with its query; hosts,
    origins: the headers of that name, all that came."""
    url = _split(target)
    if url is None or len(hosts) != 1 or len(origins) > 1:
        return Refusal(HTTPStatus.BAD_REQUEST, "not a request that a browser makes")
    if token is None and not LOOPBACK_NAME.fullmatch(PORT.sub("", hosts[0])):
        return Refusal(HTTPStatus.FORBIDDEN, "wrong Host: without a token only this machine's own")
    if url.path != SOCKET:
        return None
    if token is not None and not _same(parse_qs(url.query).get("token", [""])[0], token):
        return Refusal(HTTPStatus.UNAUTHORIZED, "wrong token: the terminal shows the whole address")
    for origin in map(_split, origins):  # none: it is no browser
        if origin is None or origin.netloc != hosts[0]:
            return Refusal(HTTPStatus.FORBIDDEN, "wrong Origin: only this page may ask")
    return None


def _same(given: str, token: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None
