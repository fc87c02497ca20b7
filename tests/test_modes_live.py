"""Every asynchronous mode in real processes, chosen on the command line and seen by rt.inspect."""

from __future__ import annotations

import numpy as np
import pytest
from launched import Launched, run_module
from test_bad_input import refused

HARD = ("--set", "schedule=zeros", "--set", "vjp=false")


@pytest.mark.parametrize(
    ("mode", "flags", "shown", "tied"),
    [
        ("naive", (), "algorithm naive   ", "nowhere"),
        ("blend", (), "algorithm blend, schedule exp   ", "softly"),
        ("temporal_ensembling", (), "temporal_ensemble_coeff 0.01   ", "softly"),
        ("rtc", HARD, "rtc, schedule zeros, max_guidance_weight 5.0, vjp False   ", "hard"),
    ],
)
def test_a_mode_runs_and_is_shown(mode: str, flags: tuple[str, ...], shown: str, tied: str) -> None:
    with Launched(mode, "--inference_algorithm", mode, *flags, "--inject_delay_ms", "60") as run:
        snapshot = run.when(
            "a warm chunk in use", lambda s: s["chunk"]["id"] >= 1 and not s["chunk"]["cold"]
        )
        chunk = snapshot["chunk"]
        assert (snapshot["algorithm"], chunk["mode"]) == (mode, mode)
        weights, kept = np.array(chunk["weights"]), 50 - chunk["s"]
        assert not weights[kept:].any()
        if tied == "nowhere":
            assert not weights.any()
        elif tied == "softly":
            assert ((weights[:kept] > 0) & (weights[:kept] <= 1)).all()
        else:
            np.testing.assert_array_equal(weights, np.arange(50) < chunk["d_planned"])
        assert shown in run_module("rt.inspect", "--session", run.session).stdout
        assert run.stop() == 0, run.output
        run.nothing_left()


def test_prefix_is_refused_for_a_policy_that_was_not_trained_for_it() -> None:
    sentence = refused("--inference_algorithm", "prefix")
    assert "cannot run in the mode 'prefix'" in sentence
    assert "sequential, naive, blend, temporal_ensembling, rtc" in sentence
