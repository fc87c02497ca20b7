"""An actor of Ray's that is handed arrays; in a process of its own, which owns Ray's."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

import numpy as np

from transports.protocol import Array
from transports.receiving import PAUSE_S, SENT_NS, other_cores, words


def time_ray(connection: Connection, shape: tuple[int, ...], dtype: str) -> None:
    """Told how many messages, 0 for the end: how long each was under way, in ns."""
    import ray

    class Reader:  # in here, or Ray's worker would look for this module
        def receive(self, data: Array) -> int:
            own = data.copy()  # what comes lies in the object store, read-only
            return time.monotonic_ns() - int(own.reshape(-1).view(np.int64)[SENT_NS])

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    os.sched_setaffinity(0, other_cores())
    actor, data, count = ray.remote(Reader).remote(), np.zeros(shape, dtype), 1
    while count:
        took = []
        for _ in range(count):
            time.sleep(PAUSE_S)
            words(data)[SENT_NS] = time.monotonic_ns()
            took.append(ray.get(actor.receive.remote(data)))
        connection.send(took)
        count = connection.recv()
    ray.shutdown()
    connection.send("gone")
