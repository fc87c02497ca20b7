"""A robot's end of the wire that sends whatever bytes it is given.

raw_sender.py DOMAIN TOPIC=TYPE...: sends good messages until a line comes on stdin; then for each
line `<topic> <hex of the message> <stamp, ns>` that message, and `sent` or `not sent` on stdout. A
stamp of 0 is now's.
"""

from __future__ import annotations

import select
import sys
from typing import Any

from cyclonedds.core import DDSException
from good_messages import TYPES, good

from rt.robots.dds import DdsBus


class Sender:
    """One topic."""

    def __init__(self, bus: DdsBus, topic: str, kind: str) -> None:
        self._writer: Any = bus.advertise_type(topic, TYPES[kind])._writer
        self._message: Any = TYPES[kind]()
        self.good = good(kind)

    def send(self, data: bytes, stamp_ns: int = 0) -> None:
        self._message.serialize = lambda **_: data
        self._writer.write(self._message, timestamp=stamp_ns or None)


def main() -> None:
    bus = DdsBus(int(sys.argv[1]), loopback=True)
    senders = {
        topic: Sender(bus, topic, kind)
        for topic, kind in (argument.split("=") for argument in sys.argv[2:])
    }
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        for sender in senders.values():
            sender.send(sender.good)
    for line in sys.stdin:
        topic, data, stamp = line.split(" ")
        try:
            senders[topic].send(bytes.fromhex(data), int(stamp))
        except DDSException:  # its own library knows of no such encoding, nor does the other end's
            print("not sent", flush=True)
        else:
            print("sent", flush=True)


if __name__ == "__main__":
    main()
