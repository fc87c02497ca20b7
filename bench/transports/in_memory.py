"""Transports in shared memory, which a receiver polls."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from operator import attrgetter, methodcaller
from typing import Any

import iceoryx2 as iox2
import numpy as np

from rt.shm import Ring
from transports.protocol import SPAWN, Array, Message, Receiver, Sender, octets

SLOTS = 8  # of a frame's ring


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
