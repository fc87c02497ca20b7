"""A Ray cluster of several nodes on this machine, and what is deployed on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from launched import ROOT, alive, marked, until
from ray import serve
from ray.cluster_utils import Cluster

DEPLOYED_S = 170.0  # generous: on a busy machine a process takes 20 s to import torch
STORE = 80 << 20  # bytes of a node's object store
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(
        str(ROOT / folder) for folder in (".", "tests", "tests_fleet", "chaos/sessions")
    ),
}


class Nodes:
    """A head, where fronts are, and `count` nodes of one `inference_pc` each. Use as a context
    manager: nothing of it is left afterwards."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._stack = contextlib.ExitStack()

    def deploy(self, config: dict[str, Any]) -> None:
        """As `serve run FILE` does; returns once it runs."""
        before = self._deployed_s()
        path = self.folder / "fleet.yaml"
        path.write_text(yaml.safe_dump(config))
        self.serve("run", "--non-blocking", str(path))
        until("another deployment", lambda: self._deployed_s() > before, DEPLOYED_S)
        try:
            until("it to run", self._runs, DEPLOYED_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{serve.status()}") from None

    def serve(self, *arguments: str) -> str:
        """What Ray's command says."""
        command = Path(sys.executable).with_name("serve")
        ended = subprocess.run(
            [command, *arguments, "--address", self._cluster.address],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEPLOYED_S,
        )
        return ended.stdout

    def replicas(self, deployment: str) -> list[int]:
        """The processes of a deployment."""
        title = f"ray::ServeReplica:rt:{deployment}".encode()
        return [pid for pid in self._processes() if _words(pid).startswith(title)]

    def running(self, deployment: str) -> int:
        """How many of them are warm; 0: another one is on its way, or should be."""
        states = dict(serve.status().applications["rt"].deployments[deployment].replica_states)
        running = states.pop("RUNNING", 0)
        return 0 if states else running

    def kill(self, pid: int) -> None:
        """A replica, as kill -9 does."""
        assert pid in self._processes()
        os.kill(pid, signal.SIGKILL)
        until("it to be gone", lambda: not alive(pid))

    def kill_node(self, pid: int) -> None:
        """The one on which that process is, with all that is on it."""
        raylet = int(_read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[1])
        (node,) = (node for node in self._nodes if raylet in self._raylets(node))
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)
        until("it to be gone", lambda: not alive(pid))

    def add_node(self) -> None:
        """Another, in place of one that was killed."""
        resources = {"inference_pc": 1}
        self._nodes.append(
            self._cluster.add_node(num_cpus=1, resources=resources, object_store_memory=STORE)
        )

    def _raylets(self, node: Any) -> list[int]:
        return [info.process.pid for info in node.all_processes["raylet"]]

    def _deployed_s(self) -> float:
        return max(
            (app.last_deployed_time_s for app in serve.status().applications.values()), default=0
        )

    def _runs(self) -> bool:
        app = serve.status().applications["rt"]
        assert app.status != "DEPLOY_FAILED", app
        healthy = all(one.status == "HEALTHY" for one in app.deployments.values())
        return app.status == "RUNNING" and healthy

    def _processes(self) -> list[int]:
        """All that are of this cluster."""
        return [pid for pid in marked(f"RAY_TMPDIR={self.folder}") if pid != os.getpid()]

    def __enter__(self) -> Nodes:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        # Short: sockets are in it.
        self.folder = Path(tempfile.mkdtemp(prefix="rt", dir="/tmp"))
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("RAY_TMPDIR", str(self.folder))
        head = {"num_cpus": 2, "resources": {"front": 4}, "object_store_memory": STORE}
        self._cluster = Cluster(
            initialize_head=True, head_node_args=head | {"include_dashboard": False}
        )
        self._stack.callback(self._cluster.shutdown)
        self._nodes: list[Any] = []
        for _ in range(self._count):
            self.add_node()
        ray.init(
            address=self._cluster.address,
            namespace="serve",
            logging_level="ERROR",
            log_to_driver=False,
        )
        self._stack.callback(ray.shutdown)
        self._stack.callback(serve.shutdown)

    def __exit__(self, *_: object) -> None:
        try:
            self._stack.close()
            until("all of it to end", lambda: not self._processes())
        finally:
            for pid in self._processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.folder)


def config(args: dict[str, Any], model: dict[str, Any] | None = None) -> dict[str, Any]:
    """configs/fleet.yaml with other `args`, with options of Model, and its fronts on the head."""
    told: dict[str, Any] = yaml.safe_load((ROOT / "configs/fleet.yaml").read_text())
    (app,) = told["applications"]
    app["args"] = args
    models, fronts = app["deployments"]
    models |= model or {"num_replicas": 1}
    if "num_replicas" in models:
        del models["autoscaling_config"]
    fronts["ray_actor_options"] = {"num_cpus": 0.5, "resources": {"front": 1}}
    return told


def _words(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/cmdline"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
