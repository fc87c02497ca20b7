"""Camera views of the simulated world, painted with OpenCV from the poses of its geoms.

No GL: nothing to install, and the same poses give the same pixels on every machine. Painting goes
from far to near, so nearer things cover farther ones. The cameras do not move: `head` looks down
from above the torso, `left` and `right` from beside the table.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from rt.errors import ConfigError
from rt.robots.sim.world import World

Points = NDArray[np.float64]
Image = NDArray[np.uint8]

VIEWS = {  # where each camera is, and a point it looks at; m
    "head": (np.array([-0.02, 0.0, 0.75]), np.array([0.4, -0.1, 0.0])),
    "left": (np.array([0.25, 0.45, 0.45]), np.array([0.36, -0.2, 0.05])),
    "right": (np.array([0.25, -0.85, 0.45]), np.array([0.36, -0.2, 0.05])),
}
FOCAL = 1.25  # in image heights: a vertical field of view of 44 degrees
NEAR_M = 0.05
FLAT_END_M = 0.01  # thinner capsules, the fingers, are painted without their round ends
FLOOR = (58, 62, 70)  # RGB
SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel
DISC = np.array(
    [[np.cos(a), np.sin(a), 0.0] for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
)
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


class _Camera(NamedTuple):
    eye: Points  # (3,) m
    axes: Points  # (3, 3): right, down and forward in the world, as rows
    background: Image  # (H, W, 3): whatever never moves


class _Shapes(NamedTuple):
    """Geoms of one kind: their ids, RGB colours and sizes in m."""

    ids: NDArray[np.intp]
    colours: list[tuple[int, ...]]
    sizes: Points


class Painter:
    """Paints views of any `World`, into images of one size."""

    def __init__(self, width: int, height: int) -> None:
        """`width` and `height` in pixels."""
        self._size = (height, width)
        self._focal = FOCAL * height
        self._centre = np.array([width / 2, height / 2])
        self._canvas = np.empty((height, width, 3), np.uint8)
        world = World()
        model = world.model
        self._disc = int(model.geom("target").id)
        is_fixed = model.body_weldid[model.geom_bodyid] == 0
        is_fixed &= model.body_mocapid[model.geom_bodyid] < 0
        kind = model.geom_type
        round_kinds = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)
        is_rod = np.isin(kind, [int(k) for k in round_kinds])
        is_rod[self._disc] = False
        self._rods = _shapes(model, is_rod)
        self._is_thick = (self._rods.sizes[:, 0] > FLAT_END_M).tolist()
        self._boxes = _shapes(model, (kind == mujoco.mjtGeom.mjGEOM_BOX) & ~is_fixed)
        self._target_colour = _shapes(model, np.arange(model.ngeom) == self._disc).colours[0]
        furniture = _shapes(model, (kind == mujoco.mjtGeom.mjGEOM_BOX) & is_fixed)
        self._cameras = {
            name: self._camera(world, *view, furniture) for name, view in VIEWS.items()
        }

    def paint(self, world: World, camera: str, out: Image) -> None:
        """Paint what `camera` sees into `out` (3, height, width) uint8 RGB.

        Raises ConfigError for a camera that there is not, or an image of another kind or size.
        """
        view = self._cameras.get(camera)
        if view is None:
            raise ConfigError(
                f"the simulator has no camera {camera!r}, only {', '.join(self._cameras)}: "
                "correct camera_names in inference_runtime_params.json"
            )
        expected = (3, *self._size)
        if out.shape != expected or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ConfigError(
                f"an image for {camera!r} must be {expected} uint8 and contiguous, got {out.shape} "
                f"{out.dtype}: make it of the size that the Painter was made with"
            )
        np.copyto(self._canvas, view.background)
        rim = world.data.geom_xpos[self._disc] + world.model.geom_size[self._disc, 0] * DISC
        _fill(self._canvas, _fixed_point(self._project(view, rim)[0]), self._target_colour)
        self._paint_bodies(view, world)
        cv2.split(self._canvas, list(out))

    def _paint_bodies(self, view: _Camera, world: World) -> None:
        """The post and whatever of the robot moves, from far to near."""
        canvas, rods, boxes = self._canvas, self._rods, self._boxes
        middles = world.data.geom_xpos[rods.ids]
        axes = world.data.geom_xmat[rods.ids, 2::3] * rods.sizes[:, 1:2]
        points = np.concatenate([middles - axes, middles + axes, self._box_corners(world, boxes)])
        pixels, depths = self._project(view, points)
        n = len(rods.ids)
        ends, end_depths = pixels[: 2 * n].reshape(2, n, 2), depths[: 2 * n].reshape(2, n)
        radii = self._focal * rods.sizes[:, 0] / end_depths
        sides = _fixed_point(_sides(ends, radii))
        caps = _fixed_point(np.concatenate([ends, radii[..., None]], axis=-1)).tolist()
        hulls = _fixed_point(pixels[2 * n :]).reshape(-1, 8, 2)
        corner_depths = depths[2 * n :].reshape(-1, 8)

        distance = np.concatenate([end_depths.mean(axis=0), corner_depths.mean(axis=1)])
        for i in (-distance).argsort().tolist():
            if i >= n:
                _fill(canvas, hulls[i - n], boxes.colours[i - n])
                continue
            cv2.fillConvexPoly(canvas, sides[i], rods.colours[i], cv2.LINE_8, SHIFT)
            if self._is_thick[i]:
                for x, y, radius in (caps[0][i], caps[1][i]):
                    cv2.circle(canvas, (x, y), radius, rods.colours[i], -1, cv2.LINE_8, SHIFT)

    def _camera(self, world: World, eye: Points, look_at: Points, furniture: _Shapes) -> _Camera:
        forward = (look_at - eye) / np.linalg.norm(look_at - eye)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward])
        background = np.full((*self._size, 3), FLOOR, np.uint8)
        camera = _Camera(eye, axes, background)
        corners, _ = self._project(camera, self._box_corners(world, furniture))
        for points, colour in zip(corners.reshape(-1, 8, 2), furniture.colours, strict=True):
            _fill(background, _fixed_point(points), colour)
        return camera

    def _project(self, camera: _Camera, points: Points) -> tuple[Points, Points]:
        """World points (N, 3) m to pixels (N, 2) and depths (N,) m."""
        seen = (points - camera.eye) @ camera.axes.T
        depth = np.maximum(seen[:, 2], NEAR_M)
        return self._centre + self._focal * seen[:, :2] / depth[:, None], depth

    @staticmethod
    def _box_corners(world: World, boxes: _Shapes) -> Points:
        """(boxes * 8, 3) m."""
        rotations = world.data.geom_xmat[boxes.ids].reshape(-1, 3, 3)
        local = CORNERS * boxes.sizes[:, None, :]
        middles = np.asarray(world.data.geom_xpos[boxes.ids])
        corners = middles[:, None, :] + local @ rotations.swapaxes(1, 2)
        return np.asarray(corners).reshape(-1, 3)


def _shapes(model: mujoco.MjModel, chosen: NDArray[np.bool_]) -> _Shapes:
    ids = np.flatnonzero(chosen)
    colours = np.round(255 * model.geom_rgba[ids, :3]).astype(int).tolist()
    return _Shapes(ids, [tuple(colour) for colour in colours], model.geom_size[ids].copy())


def _fixed_point(points: Points) -> NDArray[np.int32]:
    limit = 9999 << SHIFT  # far outside any image, well inside what OpenCV can add up
    return np.rint(np.minimum(np.maximum(points * (1 << SHIFT), -limit), limit)).astype(np.int32)


def _sides(ends: Points, radii: Points) -> Points:
    """The sides of N rods, (N, 4, 2) pixels, from `ends` (2, N, 2) and `radii` (2, N) pixels."""
    along = ends[1] - ends[0]
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1) / length[:, None]
    first, last = radii[..., None] * across
    corners = [ends[0] + first, ends[1] + last, ends[1] - last, ends[0] - first]
    return np.stack(corners, axis=1)


def _fill(canvas: Image, points: NDArray[np.int32], colour: tuple[int, ...]) -> None:
    """The convex hull of `points` (N, 2), fixed-point pixels."""
    cv2.fillConvexPoly(canvas, cv2.convexHull(points), colour, cv2.LINE_8, SHIFT)
