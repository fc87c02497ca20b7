"""What the simulated cameras see, painted into the frame rings."""

from __future__ import annotations

from collections.abc import Iterable

from rt.config import ImageSize
from rt.robots.sim.painter import Painter
from rt.robots.sim.world import World
from rt.session import Session


class Views:
    """The writer of the rings `frame.<camera>`."""

    def __init__(self, session: Session, cameras: Iterable[str], image: ImageSize) -> None:
        self._painter = Painter(image.width, image.height)
        self._rings = {name: session.writer(f"frame.{name}") for name in cameras}
        self._frames = {name: ring.buffer() for name, ring in self._rings.items()}

    def paint(self, world: World, t_capture: int) -> None:
        """Publish every view of the world as it was at `t_capture`, ns."""
        for name, ring in self._rings.items():
            frame = self._frames[name]
            frame["t_capture"] = t_capture
            self._painter.paint(world, name, frame["image"])
            ring.write(frame)

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
