"""What rt.testing.network promises. Bounds on time are from below: a busy machine keeps them."""

from __future__ import annotations

import gc
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytest
from launched import PATIENCE_S, until

from rt.testing.network import BUFFER, WINDOW, BadNetwork, Forecast, Weather

ROUGH = Weather(delay_ms=2, jitter_ms=20, stalls_per_s=5, stall_ms=30, rate_bit_s=100e6)


class Ends(NamedTuple):
    """A network, and the two ends of a connection through it."""

    network: BadNetwork
    near: socket.socket
    far: socket.socket


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(PATIENCE_S)
        yield made


def connect(network: BadNetwork) -> socket.socket:
    return socket.create_connection(("127.0.0.1", network.port), PATIENCE_S)


def accept(server: socket.socket) -> socket.socket:
    far, _ = server.accept()
    far.settimeout(PATIENCE_S)
    return far


@contextmanager
def joined(server: socket.socket, weather: Weather | None = None, seed: int = 0) -> Iterator[Ends]:
    with (
        BadNetwork(server.getsockname(), weather, seed=seed) as network,
        connect(network) as near,
        accept(server) as far,
    ):
        yield Ends(network, near, far)


def receive(end: socket.socket, size: int) -> bytes:
    """So many bytes; fewer if it ends before."""
    parts: list[bytes] = []
    while size and (part := end.recv(min(size, 65536))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Have it done in a thread meanwhile."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


# --- what a seed draws


def drawn(seed: int, times: list[float], weather: Weather = ROUGH) -> list[tuple[float, ...]]:
    """By time, asked in this order."""
    forecast = Forecast(weather, seed)
    found = {
        t: tuple(f(way, t) for f in (forecast.delay_s, forecast.stalled_until) for way in (0, 1))
        for t in times
    }
    return [found[t] for t in sorted(found)]


def test_the_same_seed_has_the_same_weather_whatever_is_sent_and_when() -> None:
    times = [random.Random(1).uniform(0, 100) for _ in range(500)]
    first = drawn(7, times)
    assert drawn(7, times[::-1]) == first
    assert drawn(7, sorted(times)[::2]) == first[::2]
    for one, other in zip(drawn(8, times), first, strict=True):
        assert not set(one) & set(other)


def test_each_direction_has_its_own() -> None:
    for delay, other, stalled, other_stalled in drawn(7, [50.0, 60.0, 70.0]):
        assert delay != other
        assert stalled != other_stalled


def test_a_delay_lies_anywhere_in_its_range() -> None:
    forecast = Forecast(Weather(delay_ms=50, jitter_ms=20), 3)
    delays_ms = [1e3 * forecast.delay_s(0, t / 100) for t in range(2000)]
    assert 50 <= min(delays_ms) < 50.1
    assert 69.9 < max(delays_ms) <= 70
    assert sum(delays_ms) / len(delays_ms) == pytest.approx(60, abs=0.5)


def test_stalls_are_as_frequent_and_as_long_as_they_are_to_be() -> None:
    forecast = Forecast(Weather(stalls_per_s=0.5, stall_ms=200), 3)
    ends = {forecast.stalled_until(0, t / 20) for t in range(40_000)}
    assert len(ends) == pytest.approx(1000, rel=0.1)
    share = sum(forecast.stalled_until(0, t / 20) > t / 20 for t in range(40_000)) / 40_000
    assert share == pytest.approx(1 - 2.718 ** (-0.5 * 0.2), rel=0.1)


def test_without_a_fault_nothing_is_drawn() -> None:
    assert drawn(7, [0.0, 1.0, 1000.0], Weather()) == [(0, 0, 0, 0)] * 3


# --- what it does to bytes


@pytest.mark.parametrize("weather", [Weather(), ROUGH])
def test_all_bytes_arrive_once_and_in_order_both_ways(
    server: socket.socket, weather: Weather
) -> None:
    dice = random.Random(5)
    there, back = dice.randbytes(900_000), dice.randbytes(700_001)

    def cut(end: socket.socket, data: bytes) -> None:
        while data:
            size = random.Random(len(data)).choice([1, 100, 1448, 100_000])
            end.sendall(data[:size])
            data = data[size:]

    with joined(server, weather) as (_, near, far):
        answered: list[bytes] = []
        with (
            beside(lambda: cut(near, there)),
            beside(lambda: cut(far, back)),
            beside(lambda: answered.append(receive(near, len(back)))),
        ):
            assert receive(far, len(there)) == there
        assert answered == [back]


def test_nothing_arrives_before_its_delay(server: socket.socket) -> None:
    with joined(server, Weather(delay_ms=60)) as (_, near, far):
        for source, sink in ((near, far), (far, near)):
            began = time.monotonic()
            source.sendall(b"x")
            assert receive(sink, 1) == b"x"
            assert time.monotonic() - began >= 0.06


def test_connecting_takes_the_way_there_and_back(server: socket.socket) -> None:
    began = time.monotonic()
    with joined(server, Weather(delay_ms=60)):
        assert time.monotonic() - began >= 0.12


def test_all_connections_share_the_bandwidth(server: socket.socket) -> None:
    data = bytes(62_500)
    with (
        BadNetwork(server.getsockname(), Weather(rate_bit_s=10e6)) as network,
        connect(network) as one,
        accept(server) as one_far,
        connect(network) as other,
        accept(server) as other_far,
    ):
        began = time.monotonic()
        one.sendall(data)
        other.sendall(data)
        assert receive(one_far, len(data)) == receive(other_far, len(data)) == data
        assert time.monotonic() - began >= 0.1
        assert network.carried == [2 * len(data), 0]


def test_each_direction_has_its_own_bandwidth(server: socket.socket) -> None:
    with joined(server, Weather(rate_bit_s=0.2e6)) as (network, near, far):
        near.sendall(bytes(WINDOW // 2))  # 20 s
        until("it to enter", lambda: network.carried[0] == WINDOW // 2)
        far.sendall(b"x")
        assert receive(near, 1) == b"x"
        far.setblocking(False)
        arrived = 0
        with suppress(BlockingIOError):
            while arrived < WINDOW // 2:
                arrived += len(far.recv(65536))
        assert arrived < WINDOW // 4


def test_nothing_passes_a_stall(server: socket.socket) -> None:
    weather, seed = Weather(stalls_per_s=2, stall_ms=200), 4
    forecast = Forecast(weather, seed)
    before = time.monotonic()
    with joined(server, weather, seed) as (_, near, far):
        after = time.monotonic()
        sent: list[float] = []
        arrived: list[float] = []

        def arrive() -> None:
            while far.recv(1):
                arrived.append(time.monotonic())

        def send() -> bool:
            sent.append(time.monotonic())
            near.sendall(b"x")
            return forecast.stalled_until(0, sent[-1] - after) > sent[-1] - before

        with beside(arrive):
            until("something to be sent in a stall", send)
            near.shutdown(socket.SHUT_WR)
        assert len(arrived) == len(sent)
        for t_sent, t_arrived in zip(sent, arrived, strict=True):
            assert t_arrived - before >= forecast.stalled_until(0, t_sent - after)


def test_nothing_passes_a_partition_and_all_of_it_afterwards(server: socket.socket) -> None:
    with joined(server) as (network, near, far):
        over = time.monotonic() + 0.3
        network.partition(0.3)
        near.sendall(b"there")
        far.sendall(b"back")
        with connect(network) as new:
            new.sendall(b"new")
            assert (receive(far, 5), receive(near, 4)) == (b"there", b"back")
            assert time.monotonic() >= over
            with accept(server) as new_far:
                assert receive(new_far, 3) == b"new"


def test_nobody_gets_a_connection_through_a_partition(server: socket.socket) -> None:
    with BadNetwork(server.getsockname()) as network:
        over = time.monotonic() + 0.3
        network.partition(0.3)
        with connect(network), accept(server):
            assert time.monotonic() >= over


def test_the_weather_may_change(server: socket.socket) -> None:
    with joined(server) as (network, near, far):
        network.change(Weather(delay_ms=60))
        began = time.monotonic()
        near.sendall(b"x")
        assert receive(far, 1) == b"x"
        assert time.monotonic() - began >= 0.06


def test_who_sends_more_than_it_carries_has_to_wait(server: socket.socket) -> None:
    most = WINDOW + 2 * BUFFER * 2  # the kernel doubles what it is asked for
    with joined(server) as (network, near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        network.partition(PATIENCE_S)
        near.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent <= 2 * most:
                sent += near.send(bytes(65536))
        assert WINDOW / 2 < sent <= most
        network.partition(0)
        assert len(receive(far, sent)) == sent


# --- how connections end


def test_each_direction_ends_in_order(server: socket.socket) -> None:
    with joined(server, Weather(delay_ms=5, jitter_ms=5)) as (_, near, far):
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert receive(far, 100) == b"question"
        far.sendall(bytes(500_000))
        far.close()
        assert len(receive(near, 600_000)) == 500_000


def test_a_reset_breaks_both_ends(server: socket.socket) -> None:
    with joined(server) as (network, near, far):
        network.reset()
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        with connect(network) as again, accept(server) as again_far:
            again.sendall(b"x")
            assert receive(again_far, 1) == b"x"


def test_a_reset_breaks_what_is_still_connecting(server: socket.socket) -> None:
    far_away = Weather(delay_ms=10_000)
    with BadNetwork(server.getsockname(), far_away) as network, connect(network) as near:
        near.settimeout(0.05)

        def broken() -> bool:
            network.reset()  # again: it may not know of the connection yet
            with pytest.raises((ConnectionResetError, TimeoutError)) as raised:
                near.recv(1)
            return raised.type is ConnectionResetError

        until("the connection to break", broken)


def test_an_end_that_breaks_breaks_the_other(server: socket.socket) -> None:
    with joined(server, Weather(delay_ms=1)) as (_, near, far):
        near.sendall(b"unread")
        until("it to arrive", lambda: far.recv(6, socket.MSG_PEEK))
        far.close()  # with something unread: a reset
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_a_server_may_be_away_and_come_back(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = reserved.getsockname()
    with BadNetwork(address) as network:
        with pytest.raises(ConnectionResetError), connect(network) as near:
            near.recv(1)
        with socket.create_server(address) as server:
            server.settimeout(PATIENCE_S)
            with connect(network) as near, accept(server) as far:
                near.sendall(b"x")
                assert receive(far, 1) == b"x"
    gc.collect()  # asyncio logs of a task that failed once it is gone
    assert not caplog.records


def test_leaving_it_breaks_all_and_leaves_nothing(server: socket.socket) -> None:
    threads = threading.active_count()
    with BadNetwork(server.getsockname(), Weather(delay_ms=1)) as network:
        near, far = connect(network), accept(server)
        network.partition(PATIENCE_S)
        near.sendall(b"under way")
        connecting = connect(network)
    with near, far, connecting:
        for end in (near, far, connecting):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    assert threading.active_count() == threads
    with pytest.raises(ConnectionRefusedError):
        connect(network)
