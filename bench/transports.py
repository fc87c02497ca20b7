"""Ways to hand the newest array from one process to another: ours and what people use instead.

Each is used as somebody who knows it would, with its copies in and out: the sender fills `data`
and sends it, the receiver ends with an array of its own. Where a transport can keep the newest
message alone it does; the others are read as fast as they are written.
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any, Protocol

import iceoryx2 as iox2
import numpy as np
import zmq
from numpy.typing import NDArray

from rt.shm import Ring

SPAWN = multiprocessing.get_context("spawn")
SLOTS = 8  # of a frame's ring
PIPE_BYTES = 1 << 20  # what an ordinary user may have, and more than a message

Array = NDArray[Any]


@dataclass(frozen=True)
class Message:
    """One array of `shape` and `dtype`; `name` is of the run alone, `folder` for its files."""

    name: str
    folder: str
    shape: tuple[int, ...]
    dtype: str

    def array(self) -> Array:
        """A new one, zeroed."""
        return np.zeros(self.shape, self.dtype)


Sender = tuple[Array, Callable[[], object]]  # what is sent, to be filled; send it
Receiver = Callable[[], Array | None]  # the newest, the receiver's own; None: nothing new yet


class Transport(Protocol):
    """Made with a Message by the sending process; it goes to the receiving one as an argument."""

    def sending(self) -> AbstractContextManager[Sender]:
        """Open the sender's end; its names are removed at the end."""

    def receiving(self) -> AbstractContextManager[Receiver]:
        """Open the receiver's end. Its call may block, or be asked again and again."""


@dataclass
class OurRing:
    """`rt.shm.Ring`."""

    message: Message

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        dtype = np.dtype([("data", self.message.dtype, self.message.shape)])
        with Ring.create(self.message.name, dtype, SLOTS) as ring:
            buffer = ring.buffer()
            try:
                yield buffer["data"], lambda: ring.write(buffer)
            finally:
                Ring.unlink(self.message.name)

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        with Ring.attach(self.message.name) as ring:
            buffer = ring.buffer()
            data, seen = buffer["data"], 0

            def receive() -> Array | None:
                nonlocal seen
                if ring.head == seen or (index := ring.read_latest(buffer)) is None:
                    return None
                seen = index + 1
                return data

            yield receive


@dataclass
class Iceoryx2:
    """Publish-subscribe of a fixed-size structure, a buffer of one sample: the newest.

    One copy on each side and no more: into the loaned sample, and out of the received one, found
    by `payload()`, as its examples have it, or by its address, which makes no ctypes pointer.
    """

    message: Message
    by_address: bool = True

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        data = self.message.array()
        payload, service, _node = self._open(data)
        publisher = service.publisher_builder().create()
        yield data, lambda: publisher.loan_uninit().write_payload(payload).send()
        publisher.delete()

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        data = self.message.array()
        payload, service, _node = self._open(data)
        subscriber = service.subscriber_builder().create()
        address, nbytes = ctypes.addressof(payload), data.nbytes
        found = attrgetter("payload_ptr") if self.by_address else methodcaller("payload")

        def receive() -> Array | None:
            sample = subscriber.receive()
            if sample is None:
                return None
            ctypes.memmove(address, found(sample), nbytes)
            return data

        yield receive
        subscriber.delete()

    def _open(self, data: Array) -> tuple[ctypes.Structure, Any, Any]:
        class Payload(ctypes.Structure):
            _fields_ = (("data", ctypes.c_uint8 * data.nbytes),)

        iox2.set_log_level(iox2.LogLevel.Error)
        config = iox2.config.default()
        config.global_cfg.root_path = iox2.Path.new(self.message.folder)
        config.global_cfg.prefix = iox2.FileName.new(self.message.name.strip("/") + "_")
        node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
        service = (
            node.service_builder(iox2.ServiceName.new("newest"))
            .publish_subscribe(Payload)
            .subscriber_max_buffer_size(1)
            .open_or_create()
        )
        return Payload.from_buffer(octets(data)), service, node


@dataclass
class LockedMemory:
    """`SharedMemory` under a `multiprocessing.RLock`, as many a control script has it.

    The reader copies only what is new, so that it holds the lock no longer than it must.
    """

    message: Message

    def __post_init__(self) -> None:
        self.lock = SPAWN.RLock()

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        data = self.message.array()
        memory = SharedMemory(self.message.name, create=True, size=8 + data.nbytes)
        source, lock = octets(data), self.lock
        with memory.buf[:8].cast("Q") as count, memory.buf[8 : 8 + data.nbytes] as place:
            count[0] = 0

            def send() -> None:
                with lock:
                    place[:] = source
                    count[0] += 1

            yield data, send
        memory.close()
        memory.unlink()

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        data = self.message.array()
        memory = SharedMemory(self.message.name)
        target, lock, seen = octets(data), self.lock, 0
        with memory.buf[:8].cast("Q") as count, memory.buf[8 : 8 + data.nbytes] as place:

            def receive() -> Array | None:
                nonlocal seen
                with lock:
                    if count[0] == seen:
                        return None
                    seen = count[0]
                    target[:] = place
                return data

            yield receive
        memory.close()


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


def octets(data: Array) -> memoryview:
    """The array's bytes, in place."""
    return data.reshape(-1).view(np.uint8).data


TRANSPORTS: dict[str, Callable[[Message], Transport]] = {
    "rt.shm.Ring": OurRing,
    "iceoryx2, by address": Iceoryx2,
    "iceoryx2, payload()": partial(Iceoryx2, by_address=False),
    "SharedMemory + RLock": LockedMemory,
    "Pipe, bytes": Pipe,
    "Pipe, objects": PicklingPipe,
    "ZeroMQ ipc": ZeroMQ,
    "Queue": Queue,
}


@contextmanager
def all_of(shape: tuple[int, ...], dtype: str, name: str) -> Iterator[dict[str, Transport]]:
    """One of each, for arrays of `shape`."""
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as folder:
        try:
            yield {
                what: make(Message(f"{name}.{i}", folder, shape, dtype))
                for i, (what, make) in enumerate(TRANSPORTS.items())
            }
        finally:
            for left in Path("/dev/shm").glob(f"{name}.*"):  # iceoryx2 leaves one
                left.unlink()
