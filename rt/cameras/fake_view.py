"""What a camera of the fake robot sees, passed on as it is."""

from __future__ import annotations

from rt import clock
from rt.cameras.image import prepare
from rt.config import Config
from rt.errors import RobotError, ShmError
from rt.session import Session
from rt.shm.buffers import Record

POLL_NS = 2_000_000
PATIENCE_NS = 1_000_000_000


class FakeView:
    """`rt.cameras.source.Source`. The times are the fake robot's, and it shows upright views."""

    def __init__(self, config: Config, name: str) -> None:
        """Attach to its ring. Raises RobotError when there is none."""
        self._fake = config.run.fake
        try:
            self._ring = Session(self._fake).reader(f"frame.{name}")
        except ShmError:
            raise RobotError(f"the fake robot {self._fake} is gone, or has no camera") from None
        self._view = self._ring.buffer()
        # A dead one's last view lies there still.
        self._seen = self._ring.head
        _, height, width = self._view["image"].shape
        self.words = f"view of the fake robot, {width}x{height}"
        camera = config.robot.cameras.get(name)
        self._bgr = camera is not None and camera.colour == "bgr"

    def read(self, frame: Record) -> str:
        patience = clock.now_ns() + PATIENCE_NS
        while self._ring.head <= self._seen:
            now = clock.now_ns()
            if now > patience:
                return f"the fake robot {self._fake} shows nothing"
            clock.sleep_until(now + POLL_NS)
        index = self._ring.read_latest(self._view)
        if index is None:
            return f"the fake robot {self._fake} paints faster than its views can be read"
        self._seen = index + 1
        frame["t_capture"] = self._view["t_capture"]
        prepare(self._view["image"].transpose(1, 2, 0), frame["image"], swap_colours=self._bgr)
        return ""

    def close(self) -> None:
        self._ring.close()
