"""The simulated robot: its model, its world, its cameras and its demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("mujoco", reason="needs the extra: pip install 'rt[sim]'")
pytest.importorskip("cv2", reason="needs the extra: pip install 'rt[sim]'")

from rt.errors import ConfigError
from rt.robots.sim.demos import Demonstration, Planner, heading
from rt.robots.sim.painter import VIEWS, Painter
from rt.robots.sim.world import INITIAL_RAD, JOINTS, REACH_DWELL_S, World

ROBOT = Path(__file__).parents[1] / "configs" / "robots" / "igris_b"
ROW_S = 0.05
WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    """robot.yaml's joint groups."""
    joint_groups: list[dict[str, Any]] = yaml.safe_load((ROBOT / "robot.yaml").read_text())[
        "joint_groups"
    ]
    return joint_groups


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner()


def slew_limits(groups: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(24,) rad per row."""
    return np.radians([group.get("max_delta_deg", 5) for group in groups for _ in range(6)])


# The model.


def test_model_and_yaml_agree_on_order_limits_and_initial_pose(
    groups: list[dict[str, Any]],
) -> None:
    world = World()
    prefixes = [group["name"].partition("_")[0] for group in groups for _ in range(6)]
    assert [name.partition("_")[0] for name in JOINTS] == prefixes
    assert [world.model.actuator(i).name for i in range(world.model.nu)] == list(JOINTS)
    lower = np.radians(np.concatenate([group["lower_deg"] for group in groups]))
    upper = np.radians(np.concatenate([group["upper_deg"] for group in groups]))
    np.testing.assert_allclose(world.model.jnt_range[world.joint_ids], np.stack([lower, upper], 1))
    np.testing.assert_allclose(world.model.actuator_ctrlrange, np.stack([lower, upper], 1))
    named = np.concatenate([group.get("initial_deg", [np.nan] * 6) for group in groups])
    known = np.isfinite(named)
    assert known[:12].all()
    np.testing.assert_allclose(INITIAL_RAD[known], np.radians(named[known]))


def test_the_arms_mirror_each_other() -> None:
    world = World()
    left, right = (world.data.site(f"{side}_hand").xpos for side in ("left", "right"))
    np.testing.assert_allclose(left, right * [1, -1, 1], atol=1e-6)


@pytest.mark.parametrize("dt_s", [ROW_S, 0.005, 0.001])
def test_every_joint_follows_the_slew_limit_and_comes_to_rest(
    groups: list[dict[str, Any]], dt_s: float
) -> None:
    """Five rows out, five back, and again, at the limit; in steps of 50, 5 and 1 ms."""
    world = World()
    limit = slew_limits(groups)
    middle = world.model.jnt_range[world.joint_ids].mean(axis=1)
    away = np.where(middle < INITIAL_RAD, -limit, limit)
    target = world.position
    steps = round(ROW_S / dt_s)
    for row in range(20):
        before = target
        target = target + (away if row % 10 < 5 else -away)
        for step in range(steps):
            world.step(before + (target - before) * (step + 1) / steps, dt_s)
        assert world.data.ncon == 0
        assert np.all(np.abs(world.position - target) < 2 * limit), "a servo trails by its lag"
    for _ in range(10 * steps):
        world.step(target, dt_s)
    np.testing.assert_allclose(world.position, target, atol=1e-4)
    np.testing.assert_allclose(world.data.qvel, 0, atol=1e-3)


def test_time_that_is_shorter_than_a_physics_step_is_not_lost() -> None:
    world = World()
    for _ in range(1000):
        world.step(INITIAL_RAD, 0.0007)
    assert world.data.time == pytest.approx(0.7, abs=world.model.opt.timestep)


# The task.


def test_a_seed_is_a_sequence_of_scenes() -> None:
    first, second, other = World(3), World(3), World(4)
    for _ in range(3):
        np.testing.assert_array_equal(first.target, second.target)
        np.testing.assert_array_equal(first.post, second.post)
        assert not np.array_equal(first.target, other.target)
        for world in (first, second, other):
            world.new_scene()


def test_a_new_scene_leaves_the_robot_where_it_is() -> None:
    world = World()
    world.step(INITIAL_RAD + 0.05, 0.2)
    before = world.position
    world.new_scene()
    np.testing.assert_array_equal(world.position, before)


def test_the_post_is_in_the_way_of_the_straight_path(planner: Planner) -> None:
    world = World(0)
    for _ in range(50):
        world.new_scene()
        way, to_post = (world.target - world.hand)[:2], world.post - world.hand[:2]
        off = abs(way[0] * to_post[1] - way[1] * to_post[0]) / np.linalg.norm(way)
        assert off < 0.02
        assert not world.touched_post


def straight_through(world: World, planner: Planner, rows: int) -> None:
    """Drive the hand straight to the target, as if there were no post."""
    far = np.array([9.0, 9.0])
    for target in planner.plan(world.position, world.target, far, 1, rows):
        world.step(target, ROW_S)


def test_going_straight_through_the_post_is_a_failure_even_at_the_target(
    planner: Planner,
) -> None:
    world = World(0)
    straight_through(world, planner, rows=120)
    assert world.touched_post
    assert not world.reached
    world.new_scene()
    assert not world.touched_post


def test_reached_takes_the_dwell_and_lasts_until_the_next_scene(planner: Planner) -> None:
    world = World(0)
    at_target = planner.plan(world.position, world.target, np.array([9.0, 9.0]), 1, 120)[-1]
    world.place(at_target)
    world.step(at_target, REACH_DWELL_S - 0.01)
    assert not world.reached
    world.step(at_target, 0.02)
    assert world.reached
    world.place(INITIAL_RAD)
    world.step(INITIAL_RAD, ROW_S)
    assert world.reached
    world.new_scene()
    assert not world.reached


def test_a_dwell_that_is_interrupted_starts_again(planner: Planner) -> None:
    world = World(0)
    at_target = planner.plan(world.position, world.target, np.array([9.0, 9.0]), 1, 120)[-1]
    for _ in range(3):
        world.place(at_target)
        world.step(at_target, 0.6 * REACH_DWELL_S)
        world.place(INITIAL_RAD)
        world.step(INITIAL_RAD, ROW_S)
    assert not world.reached


# The demonstrations.


@pytest.mark.parametrize("side", [1, -1])
def test_both_ways_round_lead_from_the_initial_pose_to_the_target(
    planner: Planner, groups: list[dict[str, Any]], side: Any
) -> None:
    world = World(11)
    for _ in range(10):
        world.new_scene()
        world.place(INITIAL_RAD)
        plan = planner.plan(world.position, world.target, world.post, side, rows=90)
        deltas = np.abs(np.diff(plan, axis=0, prepend=INITIAL_RAD[None]))
        assert np.all(deltas <= 0.6 * slew_limits(groups) + 1e-9)
        for target in plan:
            world.step(target, ROW_S)
        assert world.reached


def test_a_plan_stays_under_the_slew_limit_however_far_the_robot_was_pushed(
    planner: Planner, groups: list[dict[str, Any]]
) -> None:
    world, start = World(0), INITIAL_RAD + np.where(INITIAL_RAD > 0, -0.5, 0.5)
    plan = planner.plan(start, world.target, world.post, 1, rows=30)
    assert np.all(
        np.abs(np.diff(plan, axis=0, prepend=start[None])) <= 0.6 * slew_limits(groups) + 1e-9
    )


def test_demonstrations_go_both_ways_and_nearly_all_succeed(
    planner: Planner, groups: list[dict[str, Any]]
) -> None:
    world, rng = World(5), np.random.default_rng(5)
    sides, reached = [], 0
    for _ in range(24):
        demo = Demonstration(world, planner, rng)
        for _row in demo:
            pass
        sides.append(demo.side)
        reached += world.reached
        assert np.all(np.abs(np.diff(demo.plan, axis=0)) <= 0.6 * slew_limits(groups) + 1e-9)
    assert reached >= 18
    assert {1, -1} == set(sides)


def test_a_chunk_past_the_end_holds_the_last_row(planner: Planner) -> None:
    demo = Demonstration(World(1), planner, np.random.default_rng(1), rows=40)
    chunk = demo.chunk(30, 50)
    np.testing.assert_array_equal(chunk[:10], demo.plan[30:])
    np.testing.assert_array_equal(chunk[10:], np.repeat(demo.plan[-1:], 40, axis=0))


def test_heading_keeps_clear_of_the_post_on_its_side() -> None:
    target, post = np.array([0.3, 0.0]), np.array([0.15, 0.0])
    for side in (1, -1):
        at, path = np.zeros(2), []
        for _ in range(80):
            at = at + 0.006 * heading(at, target, post, side)
            path.append(at)
        distances = np.linalg.norm(np.array(path) - post, axis=1)
        assert distances.min() > 0.08
        beside = np.array(path)[distances.argmin()]
        assert np.sign(beside[1]) == side


# The cameras.


def is_colour(view: Any, red: int, green: int, blue: int) -> Any:
    return (view[0] == red) & (view[1] == green) & (view[2] == blue)


@pytest.mark.parametrize("camera", sorted(VIEWS))
def test_every_camera_sees_target_post_and_arm_in_every_scene(camera: str) -> None:
    world, painter = World(2), Painter(WIDTH, HEIGHT)
    view = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    for _ in range(30):
        world.new_scene()
        painter.paint(world, camera, view)
        assert is_colour(view, 26, 191, 64).sum() > 100  # the target's disc
        assert is_colour(view, 217, 38, 31).sum() > 200  # the post
        assert is_colour(view, 89, 115, 153).sum() > 1000  # the right arm


@pytest.mark.parametrize("camera", sorted(VIEWS))
def test_views_move_with_target_post_and_robot(camera: str) -> None:
    world, painter = World(2), Painter(WIDTH, HEIGHT)
    before, after = (np.zeros((3, HEIGHT, WIDTH), np.uint8) for _ in range(2))

    def changed() -> bool:
        painter.paint(world, camera, after)
        differs = not np.array_equal(before, after)
        before[:] = after
        return differs

    painter.paint(world, camera, before)
    target, post = world.target[:2], world.post
    assert not changed()
    world.arrange(target + np.array([0.01, 0.0]), post)
    assert changed()
    world.arrange(target + np.array([0.01, 0.0]), post + np.array([0.0, 0.01]))
    assert changed()
    world.place(INITIAL_RAD + np.where(np.arange(24) == 9, 0.05, 0))
    assert changed()


def test_nearer_things_cover_farther_ones() -> None:
    """Between the left camera and the right hand the post hides some of the arm; behind, none."""
    world, painter = World(2), Painter(WIDTH, HEIGHT)
    view = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    hand, eye = world.hand[:2], VIEWS["left"][0][:2]
    away = (hand - eye) / np.linalg.norm(hand - eye)

    def arm_pixels(post: Any) -> int:
        world.arrange([0.6, 0.4], post)
        painter.paint(world, "left", view)
        palm, forearm = is_colour(view, 51, 51, 56), is_colour(view, 89, 115, 153)
        return int((palm | forearm).sum())

    unhidden = arm_pixels([0.7, 0.3])
    assert arm_pixels(hand - 0.05 * away) < unhidden - 100
    assert arm_pixels(hand + 0.05 * away) == unhidden


def test_the_joints_do_not_tell_where_the_target_is() -> None:
    np.testing.assert_array_equal(World(1).position, World(2).position)
    assert not np.array_equal(World(1).target, World(2).target)


def test_images_are_rgb_planes_of_any_size() -> None:
    small, view = np.zeros((3, 120, 160), np.uint8), np.zeros((3, HEIGHT, WIDTH), np.uint8)
    world = World(2)
    Painter(160, 120).paint(world, "head", small)
    Painter(WIDTH, HEIGHT).paint(world, "head", view)
    shrunk = view.reshape(3, 120, 2, 160, 2).mean(axis=(2, 4))
    assert np.abs(shrunk - small).mean() < 5


def test_an_unknown_camera_is_named_with_those_that_exist() -> None:
    painter, view = Painter(WIDTH, HEIGHT), np.zeros((3, HEIGHT, WIDTH), np.uint8)
    with pytest.raises(ConfigError, match="'wrist', only head, left, right"):
        painter.paint(World(), "wrist", view)


def test_an_image_that_cannot_be_painted_into_is_refused() -> None:
    painter, world = Painter(WIDTH, HEIGHT), World()
    flipped = np.zeros((HEIGHT, WIDTH, 3), np.uint8).transpose(2, 0, 1)
    for image in (np.zeros((3, 120, 160), np.uint8), np.zeros((3, HEIGHT, WIDTH)), flipped):
        with pytest.raises(ConfigError, match=r"must be \(3, 240, 320\) uint8"):
            painter.paint(world, "head", image)  # type: ignore[arg-type]
