"""A bad network between a client and a server on this machine, whose faults a seed draws.

with BadNetwork(("127.0.0.1", 8000), Weather(delay_ms=50, jitter_ms=20), seed=7) as network:
    url = f"ws://127.0.0.1:{network.port}"
    network.partition(3.0)

Guarantees:
  - Every byte arrives once and in order, or its connection breaks: what TCP promises, no more.
  - None arrives sooner than its delay, its share of the bandwidth, a stall or a partition allow.
  - What is drawn depends on the seed, the direction and the time since it began, not on how bytes
    are cut: the same seed has the same weather.
  - It holds at most WINDOW bytes of each direction of a connection, and the kernel BUFFER at each
    end: who sends faster than the network carries has to wait.
  - Leaving it breaks every connection and ends its one thread.

Assumptions:
  - The kernel shakes hands before we know of it: a server that is away, or behind a partition, is
    seen as a connection that is reset, or silent, not as one that is refused.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
import time
from bisect import bisect_right
from contextlib import suppress
from typing import NamedTuple

PIECE = 16_384  # bytes that travel together
WINDOW = 64 * PIECE
BUFFER = 262_144
LOOK_S = 0.05  # how soon what waits learns that the partition or the weather is another
SLOT_S = 0.01  # for how long the jitter stays what it is
BREAKS, ENDS = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)  # SO_LINGER: how a close is told


class Weather(NamedTuple):
    """What a network does to each direction of what passes through it."""

    delay_ms: float = 0.0  # one way
    jitter_ms: float = 0.0  # on top, uniformly drawn
    stalls_per_s: float = 0.0  # how often, in the mean, a segment is lost that TCP waits for...
    stall_ms: float = 200.0  # ...so long, and all that is behind it: Linux's shortest timeout
    rate_bit_s: float = 0.0  # shared by all connections; 0: as fast as it goes


class Forecast:
    """All that a seed draws of a weather, by direction (0 or 1) and time since the beginning, s."""

    def __init__(self, weather: Weather, seed: int) -> None:
        self.weather = weather
        self._seed = seed
        self._losses = [random.Random(f"{seed} loss {way}") for way in (0, 1)]
        self._lost_at = [[0.0 - weather.stall_ms / 1e3] for _ in (0, 1)]  # one that is over at 0

    def delay_s(self, way: int, t: float) -> float:
        """How long what enters at `t` is under way."""
        draw = random.Random(f"{self._seed} {way} {int(t / SLOT_S)}").random()
        return (self.weather.delay_ms + draw * self.weather.jitter_ms) / 1e3

    def carry_s(self, size: int) -> float:
        """How long the line is busy with so many bytes."""
        return 8 * size / self.weather.rate_bit_s if self.weather.rate_bit_s else 0.0

    def stalled_until(self, way: int, t: float) -> float:
        """When the newest stall that began by `t` is over: `t` or earlier if it is."""
        lost_at = self._lost_at[way]
        while self.weather.stalls_per_s and lost_at[-1] <= t:
            lost_at.append(lost_at[-1] + self._losses[way].expovariate(self.weather.stalls_per_s))
        return lost_at[bisect_right(lost_at, t) - 1] + self.weather.stall_ms / 1e3


class BadNetwork:
    """A port of this machine behind which `target` is, through this weather. Use as a context
    manager; its methods may be called from any thread."""

    port: int

    def __init__(
        self, target: tuple[str, int], weather: Weather | None = None, *, seed: int = 0
    ) -> None:
        """`target`: where the server is, or will be: it is looked for at each connection."""
        self._target, self._seed = target, seed
        self.carried = [0, 0]  # bytes that have entered: to the server, and back
        self._dark_until = 0.0
        self._free_at = [0.0, 0.0]  # the line, by direction
        self._links: set[asyncio.Task[None]] = set()
        self.change(weather or Weather())

    def change(self, weather: Weather) -> None:
        """Have this weather from now on; what is under way keeps the delay that it was given."""
        self._forecast = Forecast(weather, self._seed)

    def partition(self, seconds: float) -> None:
        """Let nothing pass, in either direction, for so long from now; 0 ends a partition."""
        self._dark_until = time.monotonic() + seconds

    def reset(self) -> None:
        """Break every connection there is, at both ends."""
        self._loop.call_soon_threadsafe(self._break)

    def __enter__(self) -> BadNetwork:
        self._began = time.monotonic()
        self._listener = _tuned(socket.socket())
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        work = self._loop.run_until_complete
        self._thread = threading.Thread(target=work, args=(self._run(),), name="bad network")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends `_accept`
        self._thread.join()
        self._listener.close()
        self._loop.close()

    async def _run(self) -> None:
        await self._accept()
        self._break()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _break(self) -> None:
        for link in self._links:
            link.cancel()

    async def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = await self._loop.sock_accept(self._listener)
                self._begin(near)

    def _begin(self, near: socket.socket) -> None:
        link = self._loop.create_task(self._link(near))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        # Here, because a task that is cancelled before its first step comes to no `finally`.
        link.add_done_callback(lambda _: near.close())

    async def _link(self, near: socket.socket) -> None:
        """One connection, until both directions have ended, or one breaks."""
        with _tuned(socket.socket()) as far:
            try:
                await self._until(0, time.monotonic() + 2 * self._forecast.weather.delay_ms / 1e3)
                await self._loop.sock_connect(far, self._target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(near, far, 0))
                    both.create_task(self._pass_on(far, near, 1))
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ENDS)
            except* OSError:
                pass  # closed as they are, both ends break

    async def _pass_on(self, source: socket.socket, sink: socket.socket, way: int) -> None:
        """One direction, to its end."""
        # Two more are in hand: one that was taken, one that is given.
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW // PIECE - 2)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(source, under_way, way))
            both.create_task(self._give(under_way, sink, way))

    async def _take(
        self, source: socket.socket, under_way: asyncio.Queue[tuple[float, bytes]], way: int
    ) -> None:
        data = b"to begin with"
        while data:
            data = await self._loop.sock_recv(source, PIECE)
            now, forecast = time.monotonic(), self._forecast
            self.carried[way] += len(data)
            carried_at = max(self._free_at[way], now) + forecast.carry_s(len(data))
            self._free_at[way] = carried_at
            due = carried_at + forecast.delay_s(way, now - self._began)
            await under_way.put((due, data))

    async def _give(
        self, under_way: asyncio.Queue[tuple[float, bytes]], sink: socket.socket, way: int
    ) -> None:
        while True:
            due, data = await under_way.get()
            await self._until(way, due)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(sink, data)

    async def _until(self, way: int, due: float) -> None:
        """Wait until it is due, and something passes."""
        while (wait_s := self._passes_at(way, due) - time.monotonic()) > 0:
            await asyncio.sleep(min(wait_s, LOOK_S))

    def _passes_at(self, way: int, due: float) -> float:
        stalled = self._forecast.stalled_until(way, time.monotonic() - self._began)
        return max(due, self._dark_until, self._began + stalled)


def _tuned(end: socket.socket) -> socket.socket:
    """A socket that breaks its connection if it is closed before both directions have ended; so do
    those that it accepts, which inherit all of this."""
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is due is sent
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BREAKS)
    return end
