"""More robots get more Models, where there are nodes for them."""

from __future__ import annotations

import threading
from pathlib import Path

import clusters
import yaml
from launched import until
from served import free_port
from serving import chunk, connect_to, seen

ROBOTS = 6
GROWING = {
    "autoscaling_config": {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 1,
    }
}


def test_load_makes_another_model(nodes: clusters.Nodes, tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(yaml.safe_dump({"policy": {"type": "slow:Slow", "seconds": 0.2}}))
    args = {"policies": {"slow": str(path)}, "port": free_port(), "max_batch": 2}
    nodes.deploy(clusters.config(args, GROWING))
    assert len(nodes.replicas("Model")) == 1
    ended = threading.Event()

    def robot() -> None:
        with connect_to(f"ws://127.0.0.1:{args['port']}") as client:
            client.recv()
            while not ended.is_set():
                client.send(seen(0.5))
                assert chunk(client.recv(timeout=60)).batch <= 2

    robots = [threading.Thread(target=robot) for _ in range(ROBOTS)]
    for one in robots:
        one.start()
    try:
        until("a second Model", lambda: len(nodes.replicas("Model")) == 2, clusters.DEPLOYED_S)
    finally:
        ended.set()
        for one in robots:
            one.join()
