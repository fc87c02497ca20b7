"""What a front makes of its Models, and of what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from rt.serve.desk import Client
from rt.serve.fleet import Model, Models
from rt.serve.front import STALLED_S, Refusal

CLIENT = Client("robot", "/a", b"offer")
DIED, UNAVAILABLE = ActorDiedError(), ActorUnavailableError("away", b"\0" * 16)


class Handle:
    """A DeploymentHandle whose calls end as they are told to."""

    def __init__(self, *ends: bytes | str | Exception, chosen: str = "") -> None:
        self.ends = list(ends)
        self.asked: list[tuple[Any, ...]] = []
        self.chosen = chosen
        self.cancelled = False

    def options(self, *, multiplexed_model_id: str) -> Handle:
        self.chosen = multiplexed_model_id
        return self

    @property
    def ask(self) -> Handle:
        return self

    offer = ask

    def remote(self, *given: Any) -> Handle:
        self.asked.append((self.chosen, *given))
        return self

    def cancel(self) -> None:
        self.cancelled = True

    def __await__(self) -> Any:
        if not self.ends:
            yield from asyncio.Event().wait().__await__()
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def run(handle: Handle, work: Callable[[Models], Any]) -> Any:
    async def main() -> Any:
        return await work(Models(handle, ["a"]))

    return asyncio.run(main())


def ask(handle: Handle) -> Any:
    return run(handle, lambda models: models.ask(CLIENT, b"request"))


@pytest.mark.parametrize("death", [DIED, UNAVAILABLE])
def test_of_one_that_dies_another_is_asked_once(death: Exception) -> None:
    handle = Handle(death, b"reply")
    assert ask(handle) == b"reply"
    assert handle.asked == [("a", "robot", b"request", b"offer")] * 2


def test_of_two_that_die_no_third_is_asked(capfd: pytest.CaptureFixture[str]) -> None:
    handle = Handle(DIED, UNAVAILABLE, b"reply")
    assert ask(handle) == "the fleet failed: ActorUnavailableError: ask again later"
    assert handle.ends == [b"reply"]
    assert "ActorUnavailableError" in capfd.readouterr().err


def test_whatever_else_goes_wrong_is_one_sentence() -> None:
    handle = Handle(ZeroDivisionError("a secret"), b"reply")
    assert ask(handle) == "the fleet failed: ZeroDivisionError: ask again later"
    assert handle.ends == [b"reply"]


def test_a_sentence_is_a_reply() -> None:
    assert ask(Handle("replaced by a newer observation")) == "replaced by a newer observation"


def test_who_goes_gives_up_what_it_asked_for() -> None:
    async def go(models: Models) -> None:
        asked = asyncio.create_task(models.ask(CLIENT, b"request"))
        await asyncio.wait([asked], timeout=0.05)
        assert 0.04 < models.age_s() < 60
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert models.age_s() < 0.01

    handle = Handle()
    run(handle, go)
    assert handle.cancelled


def test_one_policy_alone_needs_no_path() -> None:
    async def offers(models: Models) -> list[bytes | Refusal]:
        return [await models.offer(path) for path in ("/", "/a", "/b")]

    no = Refusal(HTTPStatus.NOT_FOUND, "no policy is served at /b: expected one of /a, /")
    assert run(Handle(b"1", b"2"), offers) == [b"1", b"2", no]


def test_a_front_waits_for_a_model() -> None:
    with pytest.raises(RuntimeError, match="cannot be built"):
        run(Handle(RuntimeError("cannot be built")), lambda models: models.warm())


class Waited:
    """A desk whose oldest request has waited for so long."""

    def __init__(self, age_s: float) -> None:
        self.age_s = lambda: age_s


@pytest.mark.parametrize(
    ("ages_s", "loading", "healthy"),
    [
        ((), False, True),
        ((0.0, STALLED_S - 1), False, True),
        ((0.0, STALLED_S + 1), False, False),
        ((0.0, STALLED_S + 1), True, True),
    ],
)
def test_a_model_that_is_stuck_is_not_healthy(
    ages_s: tuple[float, ...], loading: bool, healthy: bool
) -> None:
    model: Any = Model.__new__(Model)  # what makes one is Ray's
    model._desks = [Waited(age_s) for age_s in ages_s]
    model._loading = loading
    if healthy:
        asyncio.run(model.check_health())
    else:
        with pytest.raises(RuntimeError, match="a request has waited for 11 s"):
            asyncio.run(model.check_health())
