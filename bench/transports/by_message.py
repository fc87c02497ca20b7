"""Transports through the kernel, on which a receiver blocks."""

from __future__ import annotations

import fcntl
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zmq

from transports.protocol import SPAWN, Array, Message, Receiver, Sender, octets

PIPE_BYTES = 1 << 20  # what an ordinary user may have, and more than a message


@dataclass
class ZeroMQ:
    """PUB (as XPUB) and SUB over ipc: many readers, as ours has.

    Not with CONFLATE, which keeps the newest message alone: its buffer tries a lock, and what is
    written while the reader holds it is not seen before the next message comes (libzmq 4.3.5,
    dbuffer.hpp). I/O threads carry the bytes, so both sides pay for them too.
    """

    message: Message

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        data = self.message.array()
        with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, 10_000)
            socket.bind(self._address())
            source, known = octets(data), False

            def send() -> None:
                nonlocal known
                if not known:  # what is sent before a subscription has arrived is lost
                    known = bool(socket.recv())
                socket.send(source)

            yield data, send

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        data = self.message.array()
        target = octets(data)
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.connect(self._address())
            socket.subscribe(b"")

            def receive() -> Array | None:
                socket.recv_into(target)
                return data

            yield receive

    def _address(self) -> str:
        return f"ipc://{Path(self.message.folder) / 'zmq'}"


@dataclass
class Pipe:
    """`multiprocessing.Pipe`, bytes without pickling, its buffer widened: a message fits."""

    message: Message

    def __post_init__(self) -> None:
        self.near, self.far = SPAWN.Pipe(duplex=False)
        fcntl.fcntl(self.far.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        data = self.message.array()
        source = octets(data)
        yield data, lambda: self.far.send_bytes(source)

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        data = self.message.array()
        target = octets(data)

        def receive() -> Array | None:
            self.near.recv_bytes_into(target)
            return data

        yield receive


@dataclass
class PicklingPipe(Pipe):
    """The same with `send` and `recv`, which pickle, as it is mostly used."""

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        data = self.message.array()
        yield data, lambda: self.far.send(data)

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        yield self.near.recv


@dataclass
class Queue:
    """`multiprocessing.Queue`, whose thread pickles what it is given."""

    message: Message

    def __post_init__(self) -> None:
        self.queue: multiprocessing.Queue[Array] = SPAWN.Queue()

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        data = self.message.array()
        yield data, lambda: self.queue.put(data)
        self.queue.close()
        self.queue.cancel_join_thread()

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        yield self.queue.get
