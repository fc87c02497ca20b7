"""A fleet on this machine, started with the commands of docs/fleet.md."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from launched import ROOT, marked, until
from served import HOST, free_port

START_S = 120.0
GPUS = 2  # that a node says it has
OBJECTS = 100_000_000  # bytes of shared memory that a node takes


def ray_venv() -> Path | None:
    """A venv that has Ray: this one, or that of `make test-fleet`."""
    venvs = (Path(sys.prefix), ROOT / ".venv-fleet")
    return next((venv for venv in venvs if (venv / "bin" / "serve").exists()), None)


class Started(NamedTuple):
    """A command that goes on, and where it writes."""

    process: subprocess.Popen[bytes]
    log: Path

    def until(self, says: str) -> None:
        """Return once it has said that."""

        def said() -> bool:
            assert self.process.poll() is None, f"{self.process.args} ended"
            return says in self.log.read_text()

        try:
            until(says, said, START_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None


class LocalFleet:
    """Use as a context manager: on leaving, nothing of it is left.

    venv: one that has Ray. nodes: beside the head, of GPUS `inference_pc` each. path: where
    policies are imported from. mark: VARIABLE=WORD, in the environment of all its processes.
    """

    def __init__(self, venv: Path, nodes: int, path: Sequence[Path], mark: str) -> None:
        self._nodes, self._mark = nodes, mark
        self._stack = contextlib.ExitStack()
        # Its sockets have long names as it is.
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        self._env = os.environ | {
            "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *path))),
            "RAY_TMPDIR": str(self._folder),
            "RAY_AUTH_MODE": "token",  # else whoever reaches a port of Ray's runs what he likes
            "RAY_AUTH_TOKEN": secrets.token_urlsafe(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            **dict([mark.split("=")]),
        }
        self._head, self._dashboard = free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    def serve(self, replicas: int, **args: Any) -> None:
        """Have so many, warm, beside one front. args: the application's."""
        model = {
            "name": "Model",
            "num_replicas": replicas,
            "ray_actor_options": {"resources": {"inference_pc": 1}},
        }
        application = {
            "name": "rt",
            "import_path": "rt.serve.fleet:app",
            "args": args,
            "deployments": [model],
        }
        config = self._folder / "fleet.yaml"
        config.write_text(
            yaml.safe_dump({"proxy_location": "Disabled", "applications": [application]})
        )
        address = f"http://{HOST}:{self._dashboard}"
        deployed = self._start("deploy", "serve", "deploy", str(config), "--address", address)
        assert deployed.process.wait(START_S) == 0, deployed.log.read_text()
        until("every replica", lambda: self._running() == replicas, START_S)

    def _running(self) -> int:
        """Replicas of Model that are warm, while nothing else is under way."""
        url = f"http://{HOST}:{self._dashboard}/api/serve/applications/"
        key = {"Authorization": f"Bearer {self._env['RAY_AUTH_TOKEN']}"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=key)) as told:
            app = json.load(told)["applications"]["rt"]
        assert app["status"] != "DEPLOY_FAILED", app["message"]
        if app["status"] != "RUNNING":
            return 0
        return sum(r["state"] == "RUNNING" for r in app["deployments"]["Model"]["replicas"])

    def __enter__(self) -> LocalFleet:
        try:
            head = (f"--port={self._head}", f"--dashboard-port={self._dashboard}")
            self._node("head", "--head", *head)
            worker = (
                f"--address={HOST}:{self._head}",
                f"--resources={json.dumps({'inference_pc': GPUS})}",
            )
            for number in range(self._nodes):
                self._node(f"node{number}", *worker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pid in marked(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()
        until("its processes to end", lambda: not list(marked(self._mark)))
        self._stack.close()

    def _node(self, name: str, *flags: str) -> None:
        command = ("ray", "start", "--block", "--num-cpus=4", f"--object-store-memory={OBJECTS}")
        node = self._start(name, *command, f"--node-ip-address={HOST}", *flags)
        node.until("Ray runtime started")

    def _start(self, name: str, *command: str) -> Started:
        log = self._folder / f"{name}.log"
        with log.open("w") as told:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self._env, stdout=told, stderr=subprocess.STDOUT
            )
        self._processes.append(process)
        return Started(process, log)
