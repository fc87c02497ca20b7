"""Policies on many GPUs, for many robots, as an application of Ray Serve (docs/fleet.md):

    serve run configs/fleet.yaml
    serve run rt.serve.fleet:app policies=policy.yaml port=8100

Two deployments, made of the parts of rt.serve: `Model` is engines and desks, one replica for each
GPU; `Front` is the same front, which asks the less busy of two Models.

Guarantees:
  - A request whose Model dies is asked once more, of another. It may be computed twice: nothing is
    kept of it.
  - A chunk is of a policy like the one that its robot was offered: `bond_of`.
  - A batch is of one policy, and the engines of a replica share one thread.
  - The port answers once a Model is warm; a Model is asked once it is.
Assumptions:
  - Every file has the same path on each machine. Policies carry no state from chunk to chunk.
  - A client's newest request replaces one that waits at the same Model. What waits at another is
    computed, and its reply is the older request's.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import msgspec

from rt.cli import port_taken
from rt.extras import need
from rt.serve import front
from rt.serve.access import tls_context
from rt.serve.desk import DRAIN_S, PLACES, Client, Desk, Reply
from rt.serve.engine import Engine
from rt.serve.fleet_options import PLACE, Options, address, read_key, read_options, tls_files
from rt.serve.load import load_engine
from rt.wire.offer import ANOTHER_POLICY, bond, read_offer, write_offer

try:
    from ray import serve
    from ray.exceptions import ActorDiedError, ActorUnavailableError
except ModuleNotFoundError:
    need("fleet", "rt.serve.fleet")
    raise

OFFER_S = 1.0  # for a Model to say what it offers; a robot waits 3 s for it
COMMON = {
    "health_check_period_s": 2,
    "health_check_timeout_s": 10,
    "graceful_shutdown_wait_loop_s": 0.1,
    "logging_config": {"enable_access_log": False},  # a line for each chunk
}


def app(args: dict[str, Any]) -> Any:
    """The application. args: see rt.serve.fleet_options, which says what is raised."""
    options = read_options(args)
    model = serve.deployment(
        Model,
        name="Model",
        max_ongoing_requests=PLACES,
        ray_actor_options={"resources": {"inference_pc": 1}},
        **COMMON,
    )
    gate = serve.deployment(
        Front,
        name="Front",
        ray_actor_options={"num_cpus": 0.1},  # so that a second one finds room beside it
        max_surge_percent=100,  # the new one listens before the old one hangs up
        graceful_shutdown_timeout_s=2 * DRAIN_S,
        **COMMON,
    )
    return gate.bind(options, model.bind(options))


class Loaded(NamedTuple):
    """A policy that is warm."""

    desk: Desk
    offer: bytes


class Model:
    """Some of the policies, each loaded when it is first asked for, the first ones at once."""

    async def __init__(self, options: Options) -> None:  # type: ignore[misc]
        self._options = options
        self._thread = ThreadPoolExecutor(1)  # compiled code and recordings are a thread's own
        self._loading = False
        self._desks: WeakSet[Desk] = WeakSet()  # of those that are not given up

        async def load(name: str) -> Loaded:
            return await self._load(name)

        most = options.policies_per_replica
        self._loaded = serve.multiplexed(max_num_models_per_replica=most)(load)
        for name in [*options.policies][:most]:
            await self._loaded(name)

    async def offer(self) -> bytes:
        """Of the policy that the caller has chosen."""
        loaded = await self._chosen()
        return loaded.offer

    async def ask(self, client: str, message: bytes | str, offer: bytes) -> Reply:
        """The policy's reply. offer: what the client was told of it."""
        loaded = await self._chosen()
        if bond_of(offer) != bond_of(loaded.offer):
            return ANOTHER_POLICY
        return await loaded.desk.ask(client, message)

    async def check_health(self) -> None:
        """Raises RuntimeError for a computation that does not end: the replica is replaced then."""
        age_s = max((desk.age_s() for desk in self._desks), default=0.0)
        if age_s > front.STALLED_S and not self._loading:  # which takes as long as it takes
            raise RuntimeError(f"a request has waited for {age_s:.0f} s")

    async def _chosen(self) -> Loaded:
        """A caller that gives up does not end a load: the next one finds it."""
        loaded: Loaded = await asyncio.shield(self._loaded(serve.get_multiplexed_model_id()))
        return loaded

    async def _load(self, name: str) -> Loaded:
        loop = asyncio.get_running_loop()
        self._loading = True
        try:
            engine = await loop.run_in_executor(self._thread, self._warm_engine, name)
        finally:
            self._loading = False
        most = self._options.max_batch if engine.batches else 1
        desk = Desk(engine.answer, most, self._thread)
        self._desks.add(desk)
        return Loaded(desk, write_offer(msgspec.structs.replace(engine.offer, policy=name)))

    def _warm_engine(self, name: str) -> Engine:
        engine = load_engine(Path(self._options.policies[name]))
        engine.warm_up(self._options.max_batch)
        return engine


@lru_cache(256)
def bond_of(offer: bytes) -> tuple[object, ...]:
    """What a robot that was told this relies on."""
    return bond(read_offer(offer))


class Front:
    """rt.serve's front, as long as the replica lives."""

    async def __init__(self, options: Options, model: Any) -> None:  # type: ignore[misc]
        models = Models(model, [*options.policies])
        self._front = front.Front(
            models, models.offer, read_key(options), tls_context(*tls_files(options))
        )
        await models.warm()
        try:  # the one before may listen still, another one on the same machine as well
            await self._front.open(host=address(options), port=options.port, reuse_port=True)
        except OSError as error:
            place = f"{PLACE}: port"
            raise port_taken(
                options.host, options.port, error, place=place, mend="choose another"
            ) from None

    async def __del__(self) -> None:
        await self._front.close()


class Models:
    """Model, wherever it runs, as what answers a front. model: its DeploymentHandle."""

    def __init__(self, model: Any, names: list[str]) -> None:
        self._models = {f"/{name}": model.options(multiplexed_model_id=name) for name in names}
        if len(names) == 1:
            self._models["/"] = self._models[f"/{names[0]}"]
        self._offers: dict[str, bytes] = {}  # the last of each path
        self._asked: dict[object, float] = {}  # when, of all that is not answered

    async def warm(self) -> None:
        """Return once there is a Model to be asked. Raises what that could not be built for."""
        await next(iter(self._models.values())).offer.remote()

    async def offer(self, path: str) -> bytes | front.Refusal:
        """The first frame for who comes to `path`."""
        if path not in self._models:
            names = ", ".join(self._models)
            why = f"no policy is served at {path}: expected one of {names}"
            return front.Refusal(HTTPStatus.NOT_FOUND, why)
        try:
            async with asyncio.timeout(OFFER_S):
                offer = await self._answer(self._models[path].offer)
        except TimeoutError:  # of a node that is dead and not known to be: the next Model may live
            offer = self._offers.get(path, "the fleet does not answer: ask again later")
        if isinstance(offer, str):
            return front.Refusal(HTTPStatus.SERVICE_UNAVAILABLE, offer)
        self._offers[path] = offer
        return offer

    async def ask(self, client: Client, message: bytes | str) -> Reply:
        """Its reply."""
        number = object()
        self._asked[number] = time.perf_counter()
        try:
            return await self._answer(
                self._models[client.path].ask, client.name, message, client.offer
            )
        finally:
            del self._asked[number]

    def age_s(self) -> float:
        """How long the oldest request that is not answered has been here."""
        return time.perf_counter() - next(iter(self._asked.values()), time.perf_counter())

    async def _answer(self, method: Any, *given: Any) -> Reply:
        """What a Model answers; of one that dies meanwhile, another."""
        for again in (True, False):
            response = method.remote(*given)
            try:
                answer: Reply = await response
                return answer
            except asyncio.CancelledError:  # its client has gone
                response.cancel()
                raise
            except Exception as error:
                if not (again and isinstance(error, ActorDiedError | ActorUnavailableError)):
                    traceback.print_exception(error, file=sys.stderr)
                    name = type(getattr(error, "cause", error)).__name__
                    return f"the fleet failed: {name}: ask again later"
        raise AssertionError
