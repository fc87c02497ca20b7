"""What the records of each ring become in a recording."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from rt.cameras import jpeg
from rt.config import Config
from rt.events import Events
from rt.record import messages
from rt.record.messages import JointStates, chunk_type, tick_type
from rt.record.writer import Channel, Message

JPEG_QUALITY = 90


class Source(Protocol):
    """One ring's way into the file."""

    ring: str
    channels: dict[str, Channel]  # by topic

    def encode(self, records: NDArray[Any], first: int) -> list[Message]:
        """The messages of consecutive records; `first` is the first one's index in the ring."""


class Ticks:
    """Tick records: whole, as JointStates, and what happened in them."""

    ring = "tick"

    def __init__(self, config: Config, offset_ns: int, events: Events) -> None:
        self._type = tick_type(config)
        self._joints = JointStates(config.joint_names)
        self._offset_ns = offset_ns
        self._events = events
        self._told = 0
        self._next = self._missed = 0  # the next record's index; ticks
        self.channels = {
            messages.STATE: Channel(messages.JOINT_STATE),
            messages.ACTION: Channel(messages.JOINT_STATE),
            messages.TICK: Channel(self._type.type, self._type.shapes),
            messages.EVENT: Channel(messages.LOG),
        }

    def encode(self, records: NDArray[Any], first: int) -> list[Message]:
        found: list[Message] = []
        whole = self._type.encode(records)
        for i, (tick, data) in enumerate(zip(records, whole, strict=True), first):
            t_ns = int(tick["t_done"]) + self._offset_ns
            t_state = int(tick["t_state"]) + self._offset_ns
            state = self._joints.encode(t_state, tick["state"])
            action = self._joints.encode(t_ns, tick["command"])
            found.append(Message(messages.STATE, t_ns, i, state))
            found.append(Message(messages.ACTION, t_ns, i, action))
            found.append(Message(messages.TICK, t_ns, i, data))
        self._missed += first - self._next  # `Events` leaves out those from before its first look
        self._next = first + len(records)
        for event in self._events.of(records, self._missed):
            t_ns = event.t_ns + self._offset_ns
            data = messages.encode_event(t_ns, event)
            found.append(Message(messages.EVENT, t_ns, self._told, data))
            self._told += 1
        return found


class Chunks:
    """Chunk records."""

    ring = "chunk"

    def __init__(self, config: Config, offset_ns: int) -> None:
        self._type = chunk_type(config)
        self._offset_ns = offset_ns
        self.channels = {messages.CHUNK: Channel(self._type.type, self._type.shapes)}

    def encode(self, records: NDArray[Any], first: int) -> list[Message]:
        whole = self._type.encode(records)
        return [
            Message(messages.CHUNK, int(chunk["t_publish"]) + self._offset_ns, i, data)
            for i, (chunk, data) in enumerate(zip(records, whole, strict=True), first)
        ]


class Frames:
    """One camera's images, as the policy gets them, their first channel taken for red."""

    def __init__(self, camera: str, offset_ns: int) -> None:
        self.ring = f"frame.{camera}"
        self._camera = camera
        self._topic = messages.IMAGES + camera
        self._offset_ns = offset_ns
        self.channels = {self._topic: Channel(messages.COMPRESSED_IMAGE)}

    def encode(self, records: NDArray[Any], first: int) -> list[Message]:
        found = []
        for i, frame in enumerate(records, first):
            t_ns = int(frame["t_capture"]) + self._offset_ns
            encoded = jpeg.encode(frame["image"], JPEG_QUALITY)
            data = messages.encode_image(t_ns, self._camera, encoded)
            found.append(Message(self._topic, t_ns, i, data))
        return found
