"""Normalising: the formulas, the three kinds of file, and the pickle that must not run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rt.config import Config
from rt.config.load import load_config
from rt.errors import ConfigError, PolicyError
from rt.infer.affine import IDENTITY, Affine
from rt.infer.normalization import Normalizer
from rt.infer.policy_config import load_policy_config
from rt.infer.statistics_check import check_statistics
from rt.infer.statistics_pickle import convert_pickle
from rt.launcher.options import parse

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


# --- lerobot's files

LEROBOT = {
    "observation.state": STATE | {"min": [-2.0, 5.0], "max": [4.0, 5.0], "count": [70]},
    "action": ACTION | {"min": [-1.0, -1.5], "max": [1.0, 3.0], "count": [70]},
    "observation.images.top": {"mean": [[[0.5]], [[0.4]], [[0.3]]], "count": [70]},
    "next.done": {"mean": [0.1], "std": [0.0]},
}


def write_lerobot(folder: Path, kind: str, stats: Any = LEROBOT) -> Path:
    """As lerobot saves a dataset's statistics (json), and a processor's state (safetensors)."""
    path = folder / f"stats.{kind}"
    if kind == "json":
        path.write_text(json.dumps(stats))
    else:
        save_file(
            {
                f"{feature}.{name}": torch.tensor(values, dtype=torch.float32)
                for feature, entry in stats.items()
                for name, values in entry.items()
            },
            path,
        )
    return path


def as_lerobot(x: Any, entry: dict[str, Any], mode: str) -> Any:
    """lerobot.processor.normalize_processor's formulas, in float64."""
    low, high = {
        "z-score": ("mean", "std"),
        "quantile": ("q01", "q99"),
        "min-max": ("min", "max"),
    }[mode]
    first, second = np.array(entry[low]), np.array(entry[high])
    if mode == "z-score":
        return (x - first) / (second + 1e-8)
    denominator = second - first
    denominator[denominator == 0] = 1e-8
    return 2 * (x - first) / denominator - 1


@pytest.mark.parametrize("mode", ["z-score", "quantile", "min-max"])
@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_lerobot_s_files_are_normalised_as_lerobot_does(
    tmp_path: Path, kind: str, mode: Any
) -> None:
    normalizer = Normalizer.load(write_lerobot(tmp_path, kind), 2, 2, mode=mode)
    # 5 is the second state's lower and upper bound at once.
    x = np.array([[1.0, 5.0], [-0.5, 5.0], [3.0, 5.0]])
    want = as_lerobot(x, LEROBOT["observation.state"], mode)
    np.testing.assert_allclose(normalizer.normalize_state(x), want, rtol=1e-12, atol=1e-12)
    want = as_lerobot(X, LEROBOT["action"], mode)
    np.testing.assert_allclose(normalizer.normalize_action(X), want, rtol=1e-12, atol=1e-12)
    back = normalizer.denormalize_action(normalizer.normalize_action(X))
    np.testing.assert_allclose(back, X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("write_it", "mode"), [(write, "quantile"), (write_lerobot, "min-max")])
def test_a_joint_that_never_moved_is_at_its_lower_bound(
    tmp_path: Path, write_it: Any, mode: Any, kind: Any
) -> None:
    """In float32 too, where 5 + 1e-8 is 5."""
    still = {name: [5.0, 5.0] for name in ("q01", "q99", "min", "max")}
    stats = {"observation.state": still, "action": still}
    path = write_it(tmp_path, *(("json",) if write_it is write_lerobot else ()), stats)
    normalizer = Normalizer.load(path, 2, 2, mode=mode)
    x = kind(np.full((3, 2), 5.0))
    np.testing.assert_array_equal(np.asarray(normalizer.normalize_state(x)), -np.ones((3, 2)))
    back = normalizer.denormalize_action(normalizer.normalize_action(x))
    np.testing.assert_array_equal(np.asarray(back), np.asarray(x))


@pytest.mark.parametrize("mode", ["z-score", "quantile", "min-max"])
def test_anchored_at_a_state_each_formula_is_of_the_difference(tmp_path: Path, mode: Any) -> None:
    path = write_lerobot(tmp_path, "json")
    plain = Normalizer.load(path, 2, 2, mode=mode)
    delta = Normalizer.load(path, 2, 2, mode=mode, delta=np.array([True, False]))
    state = np.array([0.25, 9.0])
    np.testing.assert_allclose(
        delta.anchored(state).normalize_action(X),
        plain.normalize_action(X - [0.25, 0.0]),
        rtol=1e-12,
    )


@pytest.mark.parametrize("mode", ["z-score", "quantile"])
def test_the_same_numbers_in_openpi_s_file_have_openpi_s_epsilon(tmp_path: Path, mode: Any) -> None:
    theirs = Normalizer.load(write_lerobot(tmp_path, "json"), 2, 2, mode=mode).action
    openpis = Normalizer.load(write(tmp_path, LEROBOT), 2, 2, mode=mode).action
    half = 1 if mode == "z-score" else 0.5
    less = 1e-8 if mode == "z-score" else 0
    np.testing.assert_allclose(openpis.scale - theirs.scale, half * (1e-6 - less), rtol=1e-6)


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize(
    ("change", "mode", "complaint"),
    [
        ({"mean": [1.0]}, "z-score", "observation.state.mean: expected 2 numbers, got 1"),
        ({"mean": [1.0] * 3}, "z-score", "observation.state.mean: expected 2 numbers, got 3"),
        ({"std": [0.0, 1.0]}, "z-score", r"state.std\[0\]: expected a number above 0, got 0"),
        ({"std": [1.0, float("nan")]}, "z-score", "finite number, got nan"),
        ({"mean": [[1.0, 2.0]]}, "z-score", r"state: mean\[0\]: expected a number"),
        ({"min": [0.0, 6.0]}, "min-max", r"state.max\[1\]: expected a number no less than its min"),
        ({"q99": None}, "quantile", "observation.state: expected a key 'q99'"),
    ],
)
def test_wrong_statistics_of_lerobot_are_told(
    tmp_path: Path, kind: str, change: dict[str, Any], mode: Any, complaint: str
) -> None:
    state = LEROBOT["observation.state"] | change
    state = {name: values for name, values in state.items() if values is not None}
    path = write_lerobot(tmp_path, kind, LEROBOT | {"observation.state": state})
    with pytest.raises(ConfigError, match=complaint) as caught:
        Normalizer.load(path, 2, 2, mode=mode)
    assert str(path) in str(caught.value)


def test_a_file_of_neither_kind_is_told_by_what_it_holds(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path, "json", {"fps": {"mean": [1.0]}})
    with pytest.raises(ConfigError, match=r"key 'observation\.state' or 'state', got 'fps'$"):
        Normalizer.load(path, 2, 2)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, None])
def test_tensors_that_cannot_be_read_are_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "stats.safetensors"
    if content is None:  # numpy has no such numbers
        save_file({"action.mean": torch.zeros(2, dtype=torch.bfloat16)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="expected a safetensors file of numbers"):
        Normalizer.load(path, 2, 2)


# --- statistics of another robot


@pytest.fixture(scope="module")
def igris_b() -> Config:
    return load_config(parse(["--robot", "igris_b"])).config


def around(degrees: Any, delta: Any = None) -> Normalizer:
    """States and actions whose middle is there."""
    affine = Affine(np.deg2rad(degrees), np.ones(len(degrees)))
    return Normalizer(affine, affine, delta)


def initial_deg(config: Config) -> Any:
    return np.rad2deg(np.nan_to_num(config.initial_rad))


def test_statistics_of_this_robot_fit(igris_b: Config) -> None:
    check_statistics(around(initial_deg(igris_b)), igris_b, "stats.json")
    check_statistics(Normalizer.identity(), igris_b, "stats.json")
    own: Any = load_policy_config(igris_b.run.policy_yaml_path).norm_stats_path
    check_statistics(Normalizer.load(own, 24, 24), igris_b, str(own))


def test_joints_in_the_order_of_the_wire_are_told(igris_b: Config) -> None:
    """IGRIS_B's messages are right first, then left: elbows bend the other way there."""
    swapped = initial_deg(igris_b).reshape(4, 6)[[1, 0, 3, 2]].ravel()
    with pytest.raises(
        ConfigError,
        match=r"^stats.json: observation.state\[1\]: .*between -100 and 20 .*around 30:",
    ):
        check_statistics(around(swapped), igris_b, "stats.json")


def test_degrees_are_told(igris_b: Config) -> None:
    with pytest.raises(ConfigError, match=r"observation.state\[0\]: .*got data around -1146"):
        check_statistics(around(np.rad2deg(initial_deg(igris_b))), igris_b, "stats.json")


def test_of_the_actions_only_absolute_ones_are_looked_at(igris_b: Config) -> None:
    far = Affine(np.full(24, 100.0), np.ones(24))
    relative = np.full(24, True)
    check_statistics(Normalizer(IDENTITY, far, relative), igris_b, "stats.json")
    relative[7] = False
    with pytest.raises(ConfigError, match=r"stats.json: action\[7\]: "):
        check_statistics(Normalizer(IDENTITY, far, relative), igris_b, "stats.json")


def test_the_margin_of_the_limits_is_granted(igris_b: Config) -> None:
    upper = np.rad2deg(igris_b.upper_rad)
    margin = igris_b.robot.limit_margin_deg
    check_statistics(around(upper + margin - 0.01), igris_b, "stats.json")
    with pytest.raises(ConfigError, match=r"^stats.json: "):
        check_statistics(around(upper + margin + 0.01), igris_b, "stats.json")


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
    got = Normalizer.load(target, 2, 2)
    for normalized, entry in (
        (got.normalize_state(X), STATE),
        (got.normalize_action(X), ACTION),
    ):  # with the epsilon of those who wrote such pickles
        want = (X - entry["mean"]) / (np.array(entry["std"]) + 1e-8)
        np.testing.assert_allclose(normalized, want, rtol=1e-12, atol=1e-12)


def test_a_pickle_in_openpi_s_form_keeps_openpi_s_formula(tmp_path: Path) -> None:
    source, target = tmp_path / "stats.pkl", tmp_path / "converted.json"
    source.write_bytes(pickle.dumps({"norm_stats": changed()}))
    convert_pickle(source, target)
    want = Normalizer.load(write(tmp_path, changed()), 2, 2)
    np.testing.assert_array_equal(
        Normalizer.load(target, 2, 2).normalize_state(X), want.normalize_state(X)
    )


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


class Call:
    """Pickled, it is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def stack_global(module: bytes, name: bytes, argument: bytes) -> bytes:
    """A pickle of protocol 4 that calls module.name(argument), dotted names too."""
    text = b"".join(b"\x8c%c%s" % (len(part), part) for part in (module, name))
    return b"\x80\x04" + text + b"\x93\x8c%c%s\x85R." % (len(argument), argument)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "attack",
    [
        lambda victim: Call(os.system, f"touch {victim}"),
        lambda victim: Call(eval, f"open({victim!r}, 'w')"),
        lambda victim: Call(open, victim, "w"),
        lambda victim: Call(getattr, Call(open, victim, "w"), "write"),
        lambda victim: Call(np.save, f"{victim}", np.zeros(1)),
        lambda victim: Call(np.ndarray.tofile, np.zeros(1), victim),
        lambda victim: np.array([Call(open, victim, "w")], dtype=object),
        lambda victim: {"mean": np.zeros(2), Call(open, victim, "w"): 1},
    ],
)
def test_no_hostile_pickle_gets_as_far_as_a_file(
    tmp_path: Path, attack: Any, protocol: int
) -> None:
    victim, source = tmp_path / "victim", tmp_path / "evil.pkl"
    source.write_bytes(pickle.dumps({"action": attack(str(victim))}, protocol))
    with pytest.raises(ConfigError, match="expected a pickle of dicts"):
        convert_pickle(source, tmp_path / "out.json")
    assert not victim.exists()
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (b"numpy", b"ndarray.tofile"),
        (b"numpy", b"dtype.__class__"),
        (b"numpy._core.multiarray", b"scalar.__self__"),
        (b"numpy._core.multiarray", b"fromfile"),
        (b"rt.infer.statistics_pickle", b"pickle.loads"),
        (b"os", b"system"),
    ],
)
def test_no_name_beyond_those_admitted_is_found(tmp_path: Path, module: bytes, name: bytes) -> None:
    (tmp_path / "evil.pkl").write_bytes(stack_global(module, name, b"true"))
    with pytest.raises(ConfigError, match=f"it asks for {module.decode()}.{name.decode()}"):
        convert_pickle(tmp_path / "evil.pkl", tmp_path / "out.json")


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


def test_a_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["action"] = endless
    (tmp_path / "stats.pkl").write_bytes(pickle.dumps(endless))
    with pytest.raises(ConfigError, match="endless nesting"):
        convert_pickle(tmp_path / "stats.pkl", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_target_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "stats.pkl").write_bytes(pickle.dumps(changed()))
    with pytest.raises(ConfigError, match=r"out\.json: cannot be written: No such file"):
        convert_pickle(tmp_path / "stats.pkl", tmp_path / "no" / "out.json")


def test_the_converter_tells_its_usage() -> None:
    command = [sys.executable, "-m", "rt.infer.normalization", "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "convert IN.pkl OUT.json" in done.stderr
