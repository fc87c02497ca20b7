"""`rt.inspect --web`: serve the web view until Ctrl-C or the session's end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rt import cores
from rt.cli import listening_address, port_taken, printable, read_secret
from rt.extras import need
from rt.session import Session

if TYPE_CHECKING:
    from rt.web.server import Server

NICE = 10


def serve(session: Session, host: str, port: int, token_file: Path | None) -> int:
    """Serve, and say where and why it ended. port 0: any that is free. Returns the exit code.

    Raises MissingPackageError; ConfigError for a host that is not this machine's, a port that is
    taken, a token that is no good, or none beyond loopback; NoSessionError when the session is just
    starting or ending.
    """
    need("web", "--web")
    token = None if token_file is None else read_secret(token_file, "--token_file", "token")
    address = listening_address(host, port, token, name="token", mend="pass --token_file TOKEN")
    # Only now that their packages are known to be there.
    from rt.web.feed import Feed
    from rt.web.pictures import Pictures
    from rt.web.server import Server

    cores.stand_aside(session.config().run.other_cores, NICE)
    with (
        closing(Feed(session)) as feed,
        closing(Pictures(session, feed.config.params.camera_names)) as pictures,
    ):
        ports = []

        def started(taken: int) -> None:
            ports.append(taken)
            # Without a token it is shown by its number alone: see rt/web/access.py.
            url = _url(host if token else address, taken, token)
            print(f"session {session.name!r} is shown at {url}", flush=True)

        try:
            asyncio.run(_until_signal(Server(feed, pictures, token), address, port, started))
        except asyncio.CancelledError:
            print(f"no longer shown: session {session.name!r} goes on")
        except OSError as error:
            if ports:
                raise  # it had its port: this is something else
            raise port_taken(host, port, error) from None
        else:
            print(printable(feed.ended()))
    return 0


async def _until_signal(
    server: Server, address: str, port: int, started: Callable[[int], None]
) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await server.run(address, port, started)


def _url(host: str, port: int, token: str | None) -> str:
    """To open in a browser. The token is in its fragment, which a browser sends to nobody."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + ("" if token is None else f"#token={quote(token, safe='')}")
