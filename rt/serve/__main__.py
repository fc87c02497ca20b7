"""`python -m rt.serve`: serve a policy to robots, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rt.cli import end_with_sentence, port_taken, printable, read_secret, underscored
from rt.errors import ConfigError
from rt.extras import need
from rt.infer.policy_config import load_policy_config
from rt.serve.access import bind, tls_context
from rt.serve.desk import DRAIN_S, ENDS, MAX_BATCH, MOST_BATCH, Desk
from rt.wire.offer import write_offer

if TYPE_CHECKING:
    from rt.serve.engine import Engine

PORT = 8000  # openpi's
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit code 0; 2: a mistake."""
    args = _parse(underscored(argv))
    need("remote", "rt.serve")
    key = args.api_key_file and read_secret(args.api_key_file, "--api_key_file", "key")
    tls = tls_context(args.tls_cert, args.tls_key)
    if load_policy_config(args.policy).type == "remote_policy":  # a mistake is told before torch
        raise ConfigError(
            f"-P {args.policy}: expected the policy that is to be served, got the robot's YAML, "
            "which says where it is served: pass the policy's own"
        )
    with closing(bind(args.host, args.port, key)) as sock:
        for number in SIGNALS:  # until it listens it just dies
            signal.signal(number, signal.SIG_DFL)
        with ThreadPoolExecutor(1) as thread:  # compiled code and recordings are a thread's own
            print(f"loading {printable(str(args.policy))}", flush=True)
            engine = thread.submit(_warm_engine, args.policy, args.max_batch).result()
            desk = Desk(engine.answer, args.max_batch if engine.batches else 1, thread)
            asyncio.run(_serve(engine, desk, sock, key, tls, args.host))
    print("no longer served")
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rt.serve", description=__doc__)
    parser.add_argument("-P", "--policy", type=Path, required=True, metavar="YAML")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=_port, default=PORT, help=f"0: any; default: {PORT}")
    parser.add_argument("--api_key_file", type=Path, help="its first line is the robots' key")
    parser.add_argument("--tls_cert", type=Path, help="PEM; without it what is sent can be read")
    parser.add_argument("--tls_key", type=Path, help="PEM")
    parser.add_argument(
        "--max_batch", type=_count, default=MAX_BATCH, help=f"chunks; default: {MAX_BATCH}"
    )
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= MOST_BATCH):
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {MOST_BATCH}, got {text!r}")
    return int(text)


def _warm_engine(policy: Path, max_batch: int) -> Engine:
    from rt.serve.load import load_engine  # needs OpenCV, which is known to be there by now

    engine = load_engine(policy)
    engine.warm_up(max_batch)
    return engine


async def _serve(
    engine: Engine,
    desk: Desk,
    sock: socket.socket,
    key: str | None,
    tls: ssl.SSLContext | None,
    host: str,
) -> None:
    """Until a signal; a second one ends it at once."""
    from rt.serve.front import Front

    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, ended.set)
    front = Front(desk, write_offer(engine.offer), key, tls, alone=engine.stateful)
    try:
        port = await front.open(sock=sock)
    except OSError as error:  # another one that loaded meanwhile was quicker
        raise port_taken(host, sock.getsockname()[1], error) from None
    name = f"[{host}]" if ":" in host else host
    scheme = "ws" if tls is None else "wss"
    print(f"{engine.offer.policy} is served at {scheme}://{name}:{port}", flush=True)
    await ended.wait()
    for number in SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    print("ending: what is being computed is still answered", flush=True)
    await asyncio.wait([asyncio.create_task(desk.close(ENDS))], timeout=DRAIN_S)
    await front.close()


if __name__ == "__main__":
    sys.exit(end_with_sentence(main))
