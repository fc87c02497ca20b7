"""A real `python -m rt.serve` under test, ended whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from launched import PATIENCE_S, ROOT, until

HOST = "127.0.0.1"
START_S = 170.0  # beside a session, on a machine that is shared, importing torch takes a minute


class Served:
    """Serves a policy at a port that stays its own, also when it is killed and started again. Use
    as a context manager."""

    def __init__(
        self, policy: Path, *arguments: str, host: str = HOST, inside: tuple[str, ...] = ()
    ) -> None:
        """inside: before the command, to have it run elsewhere; there `host` is."""
        self.said = ""  # why it did not answer, last
        self.host, self.port = host, free_port()
        folder = Path(os.environ.get("TMPDIR", "/tmp"))
        self._log = folder / f"rt-test-serve-{os.getpid()}-{self.port}.log"
        self._command = (
            *(*inside, sys.executable, "-u", "-m", "rt.serve", "-P", str(policy)),
            *("--host", host, "--port", str(self.port), *arguments),
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it is, for a BadNetwork."""
        return self.host, self.port

    @property
    def output(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Begin, also again after its end; returns once it answers."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            until("the policy server to answer", self._answers, START_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said}\n{self.output}") from None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_S)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.output
        try:
            health = f"http://{self.host}:{self.port}/healthz"
            with urllib.request.urlopen(health, timeout=1) as said:
                return bool(said.status == 200)
        except OSError as error:  # what an HTTP status means, too
            self.said = f"{error}"
            return False

    def __enter__(self) -> Served:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.unlink(missing_ok=True)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of this machine, and its key, in PEM."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x "
    words += "-addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


def free_port() -> int:
    """One that nobody has now."""
    with socket.create_server((HOST, 0)) as reserved:
        port: int = reserved.getsockname()[1]
    return port
