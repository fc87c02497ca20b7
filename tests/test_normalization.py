"""Normalising: the formulas, the files, and the pickle that must not run."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rt.errors import ConfigError, PolicyError
from rt.infer.normalization import Normalizer

STATE = {"mean": [1.0, 2.0], "std": [0.5, 4.0], "q01": [-1.0, 0.0], "q99": [3.0, 8.0]}
ACTION = {"mean": [0.0, -1.0], "std": [1.0, 0.25], "q01": [-2.0, -2.0], "q99": [2.0, 2.0]}
X = np.array([[1.0, 2.0], [-0.5, 7.25], [3.0, 0.0]])
KINDS = (
    lambda x: x.astype(np.float32),
    lambda x: x.astype(np.float64),
    lambda x: torch.tensor(x, dtype=torch.float32),
    lambda x: torch.tensor(x, dtype=torch.float64),
)


def write(folder: Path, stats: Any) -> Path:
    path = folder / "norm_stats.json"
    path.write_text(json.dumps({"norm_stats": stats}))
    return path


def changed(**changes: Any) -> dict[str, Any]:
    """Statistics with changes to the state's; None takes a key out."""
    state = {key: value for key, value in (STATE | changes).items() if value is not None}
    return {"observation.state": state, "action": ACTION}


def precision(x: Any) -> float:
    """Rounding errors of x's dtype. The formulas' 1e-6 is seen in float64."""
    return 1e-12 if x.dtype in (np.float64, torch.float64) else 1e-6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path, changed())


@pytest.mark.parametrize("kind", KINDS)
def test_z_score_is_its_formula_on_arrays_and_tensors(path: Path, kind: Any) -> None:
    normalizer = Normalizer.load(path, 2, 2)
    x = kind(X)
    for got, stats in (
        (normalizer.normalize_state(x), STATE),
        (normalizer.normalize_action(x), ACTION),
    ):
        want = (X - stats["mean"]) / (np.array(stats["std"]) + 1e-6)
        assert type(got) is type(x)
        assert got.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(got), want, rtol=precision(x), atol=precision(x))


@pytest.mark.parametrize("kind", KINDS)
def test_quantile_is_its_formula_on_arrays_and_tensors(path: Path, kind: Any) -> None:
    x = kind(X)
    got = Normalizer.load(path, 2, 2, mode="quantile").normalize_state(x)
    q01, q99 = np.array(STATE["q01"]), np.array(STATE["q99"])
    assert got.dtype == x.dtype
    np.testing.assert_allclose(
        np.asarray(got),
        (X - q01) / (q99 - q01 + 1e-6) * 2 - 1,
        rtol=precision(x),
        atol=precision(x),
    )


@pytest.mark.parametrize("mode", ["z-score", "quantile"])
@pytest.mark.parametrize("kind", KINDS)
def test_denormalising_undoes_normalising(path: Path, kind: Any, mode: Any) -> None:
    normalizer = Normalizer.load(path, 2, 2, mode=mode)
    x = kind(X)
    back = normalizer.denormalize_action(normalizer.normalize_action(x))
    assert type(back) is type(x)
    assert back.dtype == x.dtype
    np.testing.assert_allclose(np.asarray(back), X, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_changes_nothing(kind: Any) -> None:
    normalizer, x = Normalizer.identity(), kind(X)
    for f in (
        normalizer.normalize_state,
        normalizer.normalize_action,
        normalizer.denormalize_action,
    ):
        assert f(x).dtype == x.dtype
        np.testing.assert_array_equal(np.asarray(f(x)), np.asarray(x))


def test_short_key_names_will_do(tmp_path: Path, path: Path) -> None:
    want = Normalizer.load(path, 2, 2)
    short = Normalizer.load(write(tmp_path, {"state": STATE, "actions": ACTION}), 2, 2)
    np.testing.assert_array_equal(short.normalize_state(X), want.normalize_state(X))
    np.testing.assert_array_equal(short.normalize_action(X), want.normalize_action(X))


def test_statistics_beyond_the_dims_are_padding(path: Path) -> None:
    got = Normalizer.load(path, 1, 1).normalize_state(X[:, :1])
    np.testing.assert_array_equal(got, Normalizer.load(path, 2, 2).normalize_state(X)[:, :1])


def test_an_array_of_other_dims_is_refused(path: Path) -> None:
    with pytest.raises(PolicyError, match=r"2 dims, got an array of shape \(3, 1\)"):
        Normalizer.load(path, 2, 2).normalize_state(X[:, :1])


@pytest.mark.parametrize(
    ("stats", "mode", "complaint"),
    [
        ({"action": ACTION}, "z-score", "key 'observation.state' or 'state', got 'action'"),
        ({"state": STATE}, "z-score", "key 'action' or 'actions', got 'state'"),
        (changed(mean=None), "z-score", "norm_stats.observation.state: .*'mean'"),
        (changed(std=None), "z-score", "'std'"),
        (changed(q99=None), "quantile", "'q99'"),
        (changed(mean=[1.0]), "z-score", "norm_stats.observation.state.mean: expected 2 .*got 1"),
        (changed(std=[1.0, 0.0]), "z-score", r"state.std\[1\]: expected a number above 0, got 0"),
        (changed(std=[-1.0, 1.0]), "z-score", r"state.std\[0\]: .*above 0, got -1"),
        (changed(std=[1.0, float("nan")]), "z-score", "finite number, got nan"),
        (changed(mean=[1.0, float("inf")]), "z-score", "finite number, got inf"),
        (changed(mean=[1.0, "2"]), "z-score", r"mean\[1\]: expected a number.*'2'"),
        (changed(mean=3.0), "z-score", "mean: expected a list"),
        (changed(q99=[-2.0, 8.0]), "quantile", r"state.q99\[0\]: expected a number no less"),
        ([], "z-score", "expected a mapping under the key 'norm_stats'"),
    ],
)
def test_wrong_statistics_are_told(tmp_path: Path, stats: Any, mode: Any, complaint: str) -> None:
    path = write(tmp_path, stats)
    with pytest.raises(ConfigError, match=complaint) as caught:
        Normalizer.load(path, 2, 2, mode=mode)
    assert str(path) in str(caught.value)


def test_a_std_of_zero_does_not_matter_to_quantiles(tmp_path: Path) -> None:
    Normalizer.load(write(tmp_path, changed(std=[0.0, 1.0])), 2, 2, mode="quantile")


# --- the converter


def convert(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "rt.infer.normalization", "convert"]
    return subprocess.run(
        [*command, str(source), str(target)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_statistics_becomes_json(tmp_path: Path, protocol: int) -> None:
    stats = {
        key: {
            name: np.array(values, np.float32) if name == "mean" else np.array(values)
            for name, values in entry.items()
        }
        | {"count": np.float64(3), "scale": 2.5}
        for key, entry in {"observation.state": STATE, "action": ACTION}.items()
    }
    source, target = tmp_path / "stats.pkl", tmp_path / "converted.json"
    source.write_bytes(pickle.dumps(stats, protocol))
    done = convert(source, target)
    assert (done.returncode, done.stderr) == (0, "")
    want = Normalizer.load(write(tmp_path, changed()), 2, 2)
    got = Normalizer.load(target, 2, 2)
    np.testing.assert_array_equal(got.normalize_state(X), want.normalize_state(X))
    np.testing.assert_array_equal(got.normalize_action(X), want.normalize_action(X))


def test_a_malicious_pickle_never_runs(tmp_path: Path) -> None:
    victim, source, target = (tmp_path / name for name in ("victim", "evil.pkl", "out.json"))

    class Malice:
        def __reduce__(self) -> Any:
            return Path.touch, (victim,)

    source.write_bytes(pickle.dumps({"action": {"mean": Malice()}}))
    done = convert(source, target)
    assert done.returncode == 2
    assert "numpy arrays and numbers only" in done.stderr
    assert "Traceback" not in done.stderr
    assert not victim.exists()
    assert not target.exists()
    pickle.loads(source.read_bytes())  # the control: whoever trusts it runs it
    assert victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps([1.0]),
        pickle.dumps({"action": {"mean": "text"}}),
        pickle.dumps({"action": {"mean": np.array([np.nan])}}),
        pickle.dumps({"action": {"mean": np.array([{}], dtype=object)}}),
    ],
)
def test_a_pickle_of_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stats.pkl").write_bytes(content)
    done = convert(tmp_path / "stats.pkl", tmp_path / "out.json")
    assert done.returncode == 2
    assert str(tmp_path / "stats.pkl") in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_the_converter_tells_its_usage() -> None:
    command = [sys.executable, "-m", "rt.infer.normalization", "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "convert IN.pkl OUT.json" in done.stderr
