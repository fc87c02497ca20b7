"""Remote policies for tests, and what comes of asking them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import numpy as np
from scripted_server import A, ScriptedServer, answering

from rt.errors import NoAnswerError
from rt.infer.normalization import Normalizer
from rt.infer.policies.remote_policy import RemotePolicy
from rt.records import Outcome

IDENTITY = Normalizer.identity()
Start = Callable[..., tuple[RemotePolicy, ScriptedServer]]


def remote(*urls: str, **options: Any) -> RemotePolicy:
    """Asks `urls`, with a deadline that no test meets unless it is meant to."""
    options = {"url": list(urls), "deadline_ms": 20_000, "seed": 1, **options}
    return RemotePolicy({}, **options)


@contextmanager
def starting() -> Iterator[Start]:
    """`start(script, server's options, **policy's)`: a policy, and the server that it asks."""
    with ExitStack() as stack:

        def start(
            script: Any = answering, how: dict[str, Any] | None = None, **options: Any
        ) -> tuple[RemotePolicy, ScriptedServer]:
            server = stack.enter_context(ScriptedServer(script, **(how or {})))
            return stack.enter_context(closing(remote(server.url, **options))), server

        yield start


def observation() -> dict[str, Any]:
    return {"proprio": np.zeros((1, A), np.float32)}


def ask(policy: RemotePolicy, **seen: Any) -> tuple[Outcome, str]:
    """What came of one asking, and the words for it or the number in the chunk.
    seen: more than the state."""
    before = list(policy.outcomes)
    try:
        words: Any = policy.predict(observation() | seen, IDENTITY)
        outcome = Outcome.OK
    except NoAnswerError as error:
        outcome, words = error.outcome, str(error)
    before[outcome] += 1
    assert policy.outcomes == before  # counted once
    return outcome, words if isinstance(words, str) else f"{words[0, 0] / 1000 - 1:.0f}"
