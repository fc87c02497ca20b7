"""What the command lines share."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from rt.errors import ConfigError, NoSessionError, RtError, SessionError
from rt.session import SHM, check_name, holder, session_names

BAR = 30  # characters
SHORTEST_SECRET = 16


def underscored(argv: list[str] | None) -> list[str]:
    """The arguments with every flag's dashes made underscores: --dry-run is --dry_run."""
    arguments = sys.argv[1:] if argv is None else argv
    result = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("-", "_")
        result.append(flag + equals + value)
    return result


def bar(share: float) -> str:
    """A progress bar of which `share`, 0 to 1, is filled."""
    filled = round(BAR * share)
    return f"[{'#' * filled}{'.' * (BAR - filled)}]"


def printable(text: str, *, ascii_only: bool = False) -> str:
    """The same, as long, with `?` for what a terminal would obey or cannot show: names and reasons
    come from files, drivers and other programs."""
    return "".join(c if c.isprintable() and (c.isascii() or not ascii_only) else "?" for c in text)


def end_with_sentence(main: Callable[[], int]) -> int:
    """Run `main`; a mistake ends with its sentence on stderr and its exit code."""
    try:
        return main()
    except RtError as error:
        print(f"{error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output is gone; keep the interpreter from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def is_live(session: str) -> bool:
    """Whether a supervisor or a control process of the session lives."""
    return any(holder(session, role) is not None for role in ("supervisor", "control"))


def is_running(name: str) -> bool:
    """Whether a session of that name lives. A fake robot and a real robot's lock have names like
    one, but no `session` ring."""
    return is_live(name) and (SHM / f"rt.{name}.session").exists()


def pick_session(name: str | None) -> str:
    """`name` if that session lives; without a name the only live one.

    Raises NoSessionError, or SessionError when there are several to choose from.
    """
    if name is not None:
        if is_running(check_name(name)):
            return name
        remains = " (it has died: remove what it left with python -m rt.inspect --clean)"
        raise NoSessionError(
            f"no session {name!r} is running"
            + (
                remains
                if name in session_names() and not is_live(name)
                else ": start one with python -m rt.launch"
            )
        )
    live = [n for n in session_names() if is_running(n)]
    if not live:
        raise NoSessionError("no session is running: start one with python -m rt.launch")
    if len(live) > 1:
        raise SessionError(f"several sessions are running: choose with --session {'|'.join(live)}")
    return live[0]


def listening_address(
    host: str, port: int, secret: str | None, *, name: str, mend: str, place: str = "--host"
) -> str:
    """The host's, as numbers: what is judged is what is listened on; beyond this machine only with
    a secret. name, mend, place: what an error calls it, what to do with it, and whence the host is.

    Raises ConfigError.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{place}: expected a name or an address of this machine, e.g. 127.0.0.1 or 0.0.0.0, "
            f"got {host!r} ({why})"
        ) from None
    address = str(found[0][4][0])
    if secret is None and not ip_address(address.partition("%")[0]).is_loopback:
        raise ConfigError(
            f"{place} {host}: beyond this machine expected a {name}, got none: write one with "
            "python -c 'import secrets; print(secrets.token_urlsafe())' > "
            f"{name.upper()}, and {mend}"
        )
    return address


def port_taken(
    host: str,
    port: int,
    error: OSError | UnicodeError,
    *,
    place: str = "--port",
    mend: str = "choose another, or 0 for any",
) -> ConfigError:
    """The error of a port that cannot be had. place, mend: what it calls it, and what to do."""
    why = getattr(error, "strerror", None) or error
    return ConfigError(f"{place}: expected a free port of {host}, got {port} ({why}): {mend}")


def read_secret(file: Path, place: str, name: str) -> str:
    """The secret in a file's first line. `place` and `name` are what an error calls them.

    Raises ConfigError.
    """
    try:
        with file.open(encoding="ascii") as lines:
            secret = lines.readline(1000).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{place} {file}: expected a file whose first line is the {name}, got: {error}"
        ) from None
    if len(secret) < SHORTEST_SECRET or not secret.isprintable():
        raise ConfigError(
            f"{place} {file}: expected a {name} of {SHORTEST_SECRET} printable characters or "
            f"more in its first line, got {len(secret)}: "
            "python -c 'import secrets; print(secrets.token_urlsafe())' writes a good one"
        )
    return secret
