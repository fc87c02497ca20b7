"""On a DDS bus, at 20 Hz until SIGTERM: `python bus_user.py DOMAIN HEARD SAID`, two topics."""

from __future__ import annotations

import signal
import sys
import time

from rt.robots.dds import DdsBus


def main(domain: int, heard: str, said: str) -> None:
    """Listen and speak, then leave in order."""
    over = False

    def end(*_: object) -> None:
        nonlocal over
        over = True

    signal.signal(signal.SIGTERM, end)
    bus = DdsBus(domain, loopback=True)
    publisher, subscription = bus.advertise(said, "JointState"), bus.subscribe(heard, "JointState")
    while not over:
        publisher.publish(bus.message("JointState"))
        time.sleep(0.05)
        subscription.take()
    del publisher, subscription
    bus.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
