"""A camera's process: open it, then a frame whenever one comes, into the ring `frame.<camera>`."""

from __future__ import annotations

import sys
from functools import partial
from signal import SIGKILL

from rt import child
from rt.cameras.feed import Feed
from rt.cameras.source import open_source
from rt.child import Status
from rt.session import Session


def run(session: Session, status: Status) -> None:
    """Feed the ring until killed."""
    config = session.config()
    name = status.name.removeprefix("camera.")
    status.write("opening")
    feed = Feed(
        partial(open_source, config, name),
        session.writer(f"frame.{name}"),
        status,
        first_frame_s=config.robot.state_timeout_s,
    )
    while True:
        feed.step()


if __name__ == "__main__":
    sys.exit(child.start(run, on_orphaned=SIGKILL))
