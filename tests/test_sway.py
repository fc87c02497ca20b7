"""The sway policy: one small sine about the state, however often it is asked, in every mode."""

from __future__ import annotations

import numpy as np
import pytest

from rt.arrays import Chunk
from rt.config.load import configs_folder
from rt.errors import PolicyError
from rt.infer.loader import build_policy
from rt.infer.modes import Mode, open_mode
from rt.infer.normalization import Normalizer
from rt.infer.plan import Plan, leftover
from rt.infer.policies.sway import Sine, Sway
from rt.testing.configs import config

H, A = 50, 7
AMPLITUDE = np.deg2rad(2)
START = np.linspace(-2, 2, A).astype(np.float32)
# A leftover is straight between rows, so up to 1/2000 of a sine is lost each time it is cut there:
# mixing modes keep that loss.
TOLERANCE = 0.02
MODES = ("naive", "blend", "temporal_ensembling", "rtc", "prefix")


@pytest.fixture
def policy() -> Sway:
    built = build_policy(configs_folder() / "policies/sway/policy.yaml")
    assert isinstance(built, Sway)
    built.warmup()
    built.reset()
    return built


def observe(state: np.ndarray) -> dict[str, object]:
    return {"proprio": state[None].astype(np.float32)}


def chunk_of(mode: Mode, policy: Sway, plan: Plan, state: np.ndarray) -> Chunk:
    raw = mode.ask(policy, plan, observe(state), Normalizer.identity())
    return mode.join(plan, raw)[0]


def test_it_starts_where_it_is_and_stays_near(policy: Sway) -> None:
    chunk = policy.predict(observe(START), Normalizer.identity())
    assert chunk.shape == (H, A)
    assert chunk.dtype == np.float32
    np.testing.assert_array_equal(chunk[0], START)
    assert np.abs(chunk - START).max() == pytest.approx(AMPLITUDE, rel=1e-3)


@pytest.mark.parametrize("algorithm", MODES)
def test_every_mode_goes_on_with_the_same_sine(policy: Sway, algorithm: str) -> None:
    """200 chunks, asked for after whole rows and in the middle of rows, are one sine."""
    mode = open_mode(algorithm, config().params)  # type: ignore[arg-type]
    mode.check(policy, "sway")
    random = np.random.default_rng(3)
    current = chunk_of(mode, policy, Plan(0, 1), START)
    row = 0.0  # of the one long sine, which `current` begins at
    for tick in range(1, 200):
        executed = random.integers(1, 40) + random.choice([0.0, 0.25, 0.6])
        left = leftover(current, executed)
        row += executed
        plan = Plan(tick, 1, cold=False, s=int(np.ceil(executed)), d=3, leftover=left)
        current = chunk_of(mode, policy, plan, START + 0.3)  # measured elsewhere: of no matter
        truth = START + AMPLITUDE * np.sin(2 * np.pi / 100 * (row + np.arange(H)))[:, None]
        np.testing.assert_allclose(current, truth, atol=AMPLITUDE * TOLERANCE)
        np.testing.assert_allclose(current[:2], left[:2], atol=AMPLITUDE * TOLERANCE)


def test_whole_rows_never_drift(policy: Sway) -> None:
    mode = open_mode("rtc", config().params)
    current = first = chunk_of(mode, policy, Plan(0, 1), START)
    for tick in range(1, 101):  # 25 rows at a time: 25 sways
        plan = Plan(tick, 1, cold=False, s=25, leftover=leftover(current, 25))
        current = chunk_of(mode, policy, plan, START)
    np.testing.assert_allclose(current, first, atol=AMPLITUDE * 1e-4)


def test_after_a_hold_and_in_a_new_episode_it_sways_about_where_it_is(policy: Sway) -> None:
    elsewhere = START + 1
    policy.predict(observe(START), Normalizer.identity())
    np.testing.assert_array_equal(
        policy.predict(observe(elsewhere), Normalizer.identity())[0], elsewhere
    )
    policy.reset()
    left_over = observe(START) | {"action_context": np.zeros((2, A), np.float32)}
    np.testing.assert_array_equal(policy.predict(left_over, Normalizer.identity())[0], START)


def test_sequential_is_refused_in_a_sentence(policy: Sway) -> None:
    with pytest.raises(PolicyError, match="cannot run in the mode 'sequential'"):
        open_mode("sequential", config().params).check(policy, "sway")


@pytest.mark.parametrize("bad", [{"amplitude_deg": 0}, {"amplitude_deg": 90}, {"period_rows": 7}])
def test_a_sway_that_cannot_be_meant_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PolicyError, match="amplitude_deg"):
        Sine(**bad)
