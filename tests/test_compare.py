"""`python -m rt.compare`: a run end to end, and what its figures rest on."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rt.compare.__main__ import main, points
from rt.compare.__main__ import parse as parse_options
from rt.compare.fleet import STANDING, Fleet, FleetNetwork, seams
from rt.compare.metrics import average, largest_jump, largest_second_difference, wilson
from rt.compare.network import CompareNetwork
from rt.compare.points import VARIANTS, Point
from rt.compare.run import run_point
from rt.compare.world import EPISODE_ROWS, GUST_M_S, MAX_SPEED, RADIUS_M, ROW_S, World
from rt.errors import ConfigError
from rt.infer.affine import Affine
from rt.infer.denoising import Guide, guided_denoise
from rt.infer.normalization import Normalizer
from rt.session import session_names
from rt.testing import FakeClock, SimulatedRun, config

STILL_AIR = "rt.compare.world.GUST_M_S"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the command's processes: so small a network only waits for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> World:
    """Three episodes without gusts."""
    monkeypatch.setattr(STILL_AIR, 0.0)
    world = World(3, seed=7)
    world.position[:] = [[-1.0, 0.0], [-1.0, 0.9], [0.0, 0.9]]
    world.obstacle[:] = 0.0
    world.goal[:] = [[1.0, 0.0], [1.0, 0.9], [0.0, -0.9]]
    return world


def test_a_robot_goes_where_its_velocity_says_and_no_faster_than_it_can(calm: World) -> None:
    calm.step(np.array([[0.5, 0.0], [0.0, -0.25], [9.0, 0.0]]))
    expected = [[-1 + 0.5 * ROW_S, 0], [-1, 0.9 - 0.25 * ROW_S], [MAX_SPEED * ROW_S, 0.9]]
    np.testing.assert_allclose(calm.position, expected)
    np.testing.assert_allclose(calm.velocity[2], [MAX_SPEED, 0])


def test_touching_the_obstacle_ends_an_episode_and_reaching_the_goal_another(calm: World) -> None:
    while not calm.over.all():
        calm.step(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(calm.touched, [True, False, False])
    np.testing.assert_array_equal(calm.reached, [False, True, False])
    assert calm.rows[2] == EPISODE_ROWS  # it never moved: out of time
    assert calm.rows[0] == math.ceil((1 - RADIUS_M) / ROW_S + 1e-9)
    gap = np.hypot(*calm.position[0])
    assert RADIUS_M - ROW_S < gap < RADIUS_M  # it stays where it touched


def test_gusts_push_and_are_the_same_whatever_the_robot_does() -> None:
    one, other = World(200, seed=3), World(200, seed=3)
    start = one.position.copy()
    one.step(np.zeros((200, 2)))
    other.step(np.full((200, 2), 0.5))
    pushed = one.position - start
    assert 0.5 < pushed.std() / (ROW_S * GUST_M_S) < 1.5
    np.testing.assert_allclose(other.position - one.position, ROW_S * 0.5)


def test_wilson_is_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263, method 3.
    np.testing.assert_allclose(wilson(81, 263), [81 / 263, 0.2553, 0.3662], atol=5e-5)
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == pytest.approx(1)
    assert wilson(0, 0)[1:] == (0, 1)


def test_an_average_has_the_normal_interval() -> None:
    mean, low, high = average(np.array([1.0, 3.0, 5.0, 7.0]))
    assert mean == 4
    assert high - mean == pytest.approx(1.96 * math.sqrt(20 / 3) / 2, rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    alone = average(np.array([2.0]))
    assert alone.mean == 2
    assert np.isnan([*alone[1:], *average(np.array([]))]).all()


def test_jumps_and_bends_of_a_hand_made_trajectory() -> None:
    x = np.array([0, 0.1, 0.5, 0.6, 0.7, 0.7, 5.0])
    velocities = np.stack([x, np.zeros_like(x)], axis=1)[:, None]  # (T, 1, 2)
    going = np.array([[True]] * 6 + [[False]])  # over before it would leap
    seam = np.array([True, False, False, True, False, False, True])
    everywhere = np.ones(7, np.bool_)
    assert largest_jump(velocities, going, everywhere) == pytest.approx(0.4)
    assert largest_jump(velocities, going, seam) == pytest.approx(0.1)  # into row 3 alone
    assert largest_jump(velocities, going, ~everywhere) == 0
    assert largest_second_difference(velocities, going) == pytest.approx(0.3)


def test_a_fleet_stands_in_the_ticks_that_never_happened(calm: World) -> None:
    clock = FakeClock()
    row_ns = round(ROW_S * 1e9)
    fleet = Fleet(calm, clock, row_ns)
    fleet.read_state()
    fleet.publish_action(np.zeros(6))  # before its first real command the world waits
    clock.advance(5 * row_ns)
    fleet.read_state()
    assert calm.row == 0
    fleet.tick = 8
    fleet.publish_action(np.full(6, 0.5))
    clock.advance(3 * row_ns)
    velocity = fleet.read_state().position
    assert fleet.row_ticks == [8, STANDING, STANDING]
    np.testing.assert_array_equal(fleet.velocities[:3, 0, 0], [0.5, 0, 0])
    np.testing.assert_array_equal(velocity, np.zeros(6))


def test_all_episodes_at_once_are_denoised_like_each_alone() -> None:
    torch.manual_seed(0)
    network = CompareNetwork(state_dim=6, action_dim=2, action_horizon=16, width=8, depth=1)
    world, stats = World(3, seed=1), Normalizer(Affine(np.zeros(6), np.ones(6)), Affine(*np.eye(2)))
    fleet = FleetNetwork(network, stats, world)
    context = fleet.encode({"proprio": torch.randn(1, 1, 6)})
    noise, leftover = torch.randn(2, 1, 16, 6)
    weights = torch.linspace(1, 0, 16)
    together = guided_denoise(
        lambda x, tau: fleet.velocity(context, x, tau), noise, 5, Guide(leftover, weights)
    )
    for episode in range(3):
        joints = slice(2 * episode, 2 * episode + 2)
        alone = guided_denoise(
            lambda x, tau, e=episode: network.velocity(context[e : e + 1], x, tau),
            noise[..., joints],
            5,
            Guide(leftover[..., joints], weights),
        )
        torch.testing.assert_close(together[..., joints], alone)


def test_a_row_without_a_command_is_no_seam() -> None:
    at = seams([3, 4, STANDING, STANDING, 7], {-1, 3, 7})
    assert at.tolist() == [True, False, False, False, True]


def test_without_a_delay_sequential_is_naive() -> None:
    sequential, naive = (run_point(Point(v, 0, 16, seed=103)) for v in ("sequential", "naive"))
    assert sequential[1:] == naive[1:]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("delay", [0, 8])
def test_every_variant_runs_at_the_delay_that_was_asked(variant: str, delay: int) -> None:
    result = run_point(Point(variant, delay, episodes=8, seed=100))  # checks the counted delays
    assert result.success.mean + result.touched <= 1
    assert result.second_difference.mean > 0
    assert not [name for name in session_names() if name.startswith(f"fake-{os.getpid()}-")]


def test_an_instant_run_plans_s_min_rows_apart_and_uses_each_plan_at_once() -> None:
    with SimulatedRun(config(min_num_actions_executed=4), delay=lambda n: 0, instant=True) as run:
        while not run.chunks:
            run.tick()
        run.tick(13)
    assert [plan.cold for plan in run.plans] == [True, False, False, False]
    begin = int(run.chunks[0]["first_tick"])
    assert [plan.obs_tick - begin for plan in run.plans[1:]] == [4, 8, 12]
    assert [(plan.s, plan.d) for plan in run.plans[1:]] == [(4, 2), (4, 0), (4, 0)]
    rows = [int(tick["row"]) for tick in run.ticks if int(tick["tick"]) >= begin]
    assert rows == [0, 1, 2, 3] * 3 + [0]


def test_under_delay_rtc_keeps_what_naive_loses() -> None:
    point = {
        (variant, delay): run_point(Point(variant, delay, episodes=384, seed=101))
        for variant in ("rtc", "naive")
        for delay in (0, 6)
    }
    assert point["rtc", 6].success.mean >= 0.85 * point["rtc", 0].success.mean
    assert point["naive", 6].success.mean <= 0.65 * point["naive", 0].success.mean
    assert point["rtc", 6].seam_jump.mean <= 0.5 * point["naive", 6].seam_jump.mean


def test_a_seed_repeats_exactly_and_another_differs() -> None:
    first, again = (run_point(Point("rtc", 4, 16, seed=105)) for _ in range(2))
    assert first == again
    assert run_point(Point("rtc", 4, 16, seed=106))[1:] != first[1:]


def test_the_command_writes_one_line_a_point_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["--episodes", "8", "--delays", "0,6", "--variants", "naive,rtc"]
    done = subprocess.run(
        [sys.executable, "-m", "rt.compare", *arguments, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"[{'#' * 15}{'.' * 15}] 2 of 4 points" in done.stderr
    assert "4 of 4 points" in done.stderr
    with (tmp_path / "compare.csv").open() as file:
        lines = list(csv.DictReader(file))
    found = [(line["variant"], line["delay"]) for line in lines]
    assert found == [("naive", "0"), ("naive", "6"), ("rtc", "0"), ("rtc", "6")]
    for line in lines:
        assert float(line["success_low"]) <= float(line["success"]) <= float(line["success_high"])
    assert "</svg>" in (tmp_path / "compare.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--episodes", "0"], "--episodes: expected a whole number from 1 to"),
        (["--episodes", "many"], "'many'"),
        (["--delays", "4-9"], "none above H/2 = 8, got '4-9'"),
        (["--delays", "5-2"], "'5-2'"),
        (["--delays", ""], "--delays: expected rows like"),
        (["--variants", "naive,rct"], "did you mean 'rtc'?"),
        (["--seed", "-1"], "--seed: expected a whole number from 0"),
        (["--out", "/dev/null/x"], "--out: expected a folder"),
    ],
)
def test_a_bad_value_is_one_sentence_before_anything_runs(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        main(arguments)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_delays_and_variants_make_the_points() -> None:
    todo = points(parse_options(["--delays", "0-2,1,6", "--variants", "rtc,naive"]))
    assert {p.variant for p in todo} == {"naive", "rtc"}
    assert [p.delay for p in todo if p.variant == "rtc"] == [0, 1, 2, 6]
    assert len(todo) == 8
    assert todo[0].episodes == 1024
