"""Whatever stands in a configuration file or behind `--set`: a configuration, or one sentence."""

from __future__ import annotations

import copy
import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from broken_files import JUNK, as_json, as_yaml, broken, changed_bytes, odd_values
from config_folder import put
from fuzzing import fuzz, no_hang, outcome
from hypothesis import strategies as st
from reliability import tell
from safetensors.numpy import save
from scale import Scale

from rt.config import decode_config, encode_config
from rt.config.load import PARAMS_FILE, TOPICS_FILE, load_config
from rt.errors import RtError
from rt.infer.loader import import_class
from rt.infer.normalization import Normalizer
from rt.infer.policy_config import declared_dims, load_policy_config
from rt.infer.statistics_pickle import convert_pickle
from rt.launcher.options import parse
from rt.launcher.prepare import check_run
from rt.session import ring_table

CONFIGS = Path(__file__).parents[2] / "configs"
ROBOTS = ("igris_b", "igris_c")
ROBOT_FILES = ("robot.yaml", PARAMS_FILE, TOPICS_FILE)
POLICY_FILES = (
    "flow_demo/policy.yaml",
    "flow_demo/components/flow.yaml",
    "flow_demo_delta/policy.yaml",
)
SHARE = 0.15  # of the scale's examples for each file: PyYAML takes its time


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A copy of all configuration, to break."""
    return Path(shutil.copytree(CONFIGS, tmp_path / "configs"))


def launched(configs: Path, robot: str, *flags: str) -> None:
    """What launch does before it starts anything; and what a child does with what it is handed."""
    io = {"igris_b": "sim", "igris_c": "dds"}[robot]
    config = load_config(parse(["--robot", f"{configs}/robots/{robot}", "--io", io, *flags])).config
    check_run(config)
    assert decode_config(encode_config(config)) == config
    ring_table(config)


def loaded(policy: Path) -> None:
    """What inference does with a policy's files before it builds anything."""
    config = load_policy_config(policy)
    declared_dims(config)
    for name, component in config.components.items():
        if component.class_path is not None:
            import_class(component.class_path, f"{config.component_paths[name]}: class")
    if config.norm_stats_path is not None:
        delta = config.delta_mask(24)
        Normalizer.load(config.norm_stats_path, 24, 24, mode=config.norm_stats_mode, delta=delta)


def content_of(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def written(path: Path, content: bytes, attempt: Callable[[], object], *places: str) -> str:
    """The outcome with `content` in the file at `path`, which is put back afterwards."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        return outcome(attempt, *places)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("file", ROBOT_FILES)
@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robots_file_is_taken_or_refused_in_a_sentence(
    configs: Path, robot: str, file: str, scale: Scale, dice: random.Random
) -> None:
    path = configs / "robots" / robot / file
    encode = as_yaml if path.suffix == ".yaml" else as_json

    def attempt(content: Any) -> str:
        return written(path, encode(content), lambda: launched(configs, robot), str(configs))

    found = fuzz(scale, dice, broken(content_of(path)), attempt, share=SHARE)
    tell("fuzz", f"`{robot}/{file}`", str(found))


@pytest.mark.parametrize("file", POLICY_FILES)
def test_a_policys_file_is_taken_or_refused_in_a_sentence(
    configs: Path, file: str, scale: Scale, dice: random.Random
) -> None:
    path = configs / "policies" / file
    policy = path.parent / "policy.yaml"
    policy = policy if policy.exists() else path.parents[1] / "policy.yaml"

    def attempt(content: Any) -> str:
        return written(path, as_yaml(content), lambda: loaded(policy), str(configs))

    found = fuzz(scale, dice, broken(content_of(path)), attempt, share=SHARE)
    tell("fuzz", f"`{file}`", str(found))


def test_statistics_are_taken_or_refused_in_a_sentence(
    tmp_path: Path, scale: Scale, dice: random.Random
) -> None:
    """JSON of both kinds, safetensors and pickles; well-formed ones with wrong content, and bytes
    of good ones with some changed."""
    numbers = {"mean": [0.0, 1.0], "std": [1.0, 2.0], "q01": [-1.0, -2.0], "q99": [1.0, 2.0]}
    plain = {"observation.state": numbers, "action": numbers}
    arrays = {f"{key}.{name}": np.array(v) for key, s in plain.items() for name, v in s.items()}
    good = {
        ".json": [as_json(plain), as_json({"norm_stats": plain})],
        ".safetensors": [save(arrays)],
        ".pkl": [
            pickle.dumps({key: {"mean": np.array(s["mean"])} for key, s in plain.items()}, protocol)
            for protocol in range(6)
        ],
    }
    changed = st.one_of(
        *(
            st.tuples(st.just(suffix), changed_bytes(content))
            for suffix, contents in good.items()
            for content in contents
        ),
        st.tuples(st.just(".json"), broken(plain).map(as_json)),
        st.tuples(st.just(".json"), broken({"norm_stats": plain}).map(as_json)),
        st.tuples(st.just(".pkl"), broken(plain).map(pickle.dumps)),
    )

    def attempt(case: tuple[str, bytes]) -> str:
        suffix, content = case
        path = tmp_path / f"stats{suffix}"
        path.write_bytes(content)
        if suffix == ".pkl":
            return outcome(lambda: convert_pickle(path, tmp_path / "out.json"), str(path))
        mode = "quantile" if len(content) % 2 else "z-score"
        return outcome(lambda: Normalizer.load(path, 2, 2, mode=mode), str(path))

    tell("fuzz", "statistics", str(fuzz(scale, dice, changed, attempt)))


@pytest.mark.parametrize("robot", ROBOTS)
def test_set_is_taken_or_refused_in_a_sentence(
    configs: Path, robot: str, scale: Scale, dice: random.Random
) -> None:
    names = ["HZ", "robot", "params", "topics", "run", "realtime", "cameras", "head", "options"]
    names += ["joint_groups", "lower_deg", "0", "99", "-1", "session", "policy", "driver", "io"]
    names += ["camera_names", "norm_stats_file_path", "commands", "joints", "fields", "slice"]
    key = st.lists(st.one_of(st.sampled_from(names), st.text(max_size=5)), max_size=5)
    value = st.one_of(odd_values().map(json.dumps), st.text(max_size=30), st.sampled_from(YAMLS))
    text = st.tuples(key.map(".".join), st.sampled_from(["=", "=", "=", "", "=="]), value)

    def attempt(texts: list[tuple[str, str, str]]) -> str:
        flags = [f"--set={''.join(parts)}" for parts in texts]
        return outcome(lambda: launched(configs, robot, *flags))

    found = fuzz(scale, dice, st.lists(text, max_size=3), attempt, share=SHARE)
    tell("fuzz", f"`--set`, {robot}", str(found))


YAMLS = [content.decode() for content in JUNK if content.isascii() and len(content) < 400]


@pytest.mark.parametrize("file", [*ROBOT_FILES, "policy.yaml", "flow.yaml", "stats.json"])
def test_a_file_of_something_else_is_refused_in_a_sentence(
    configs: Path, file: str, scale: Scale, dice: random.Random
) -> None:
    """Bombs, tags, recursion, binary; a folder, a loop of links, and a file that is not ours."""
    folder = configs / "robots" / "igris_b"
    policy = configs / "policies" / "flow_demo"
    path = {
        "policy.yaml": policy / "policy.yaml",
        "flow.yaml": policy / "components" / "flow.yaml",
        "stats.json": policy / "norm_stats.json",
    }.get(file, folder / file)

    def load() -> None:
        if path.is_relative_to(folder):
            launched(configs, "igris_b")
            return
        loaded(policy / "policy.yaml")

    load()
    for content in dice.sample(JUNK, min(len(JUNK), scale.examples // 3)):
        with no_hang():
            found = written(path, content, load, str(path))
            assert found == "refused" or file == "flow.yaml", content[:80]  # which may be empty
    before = path.read_bytes()
    for odd in (
        lambda: path.mkdir(),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to("/proc/self/mem"),
    ):
        path.unlink()
        odd()
        assert outcome(load, str(folder), str(path)) == "refused"
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(before)
    load()


PATHS = [
    *("", ".", "..", "/", "~", "/dev/null", "/proc/self/mem", "../" * 60 + "etc/passwd", "loop"),
    *("a\0", "a\nb", "x" * 300, "a/" * 3000, "//etc//passwd", "file:///etc/passwd", "$HOME"),
    *(".py", ".x", "a..b", "a.b.", "os", "rt", "rt.errors", ":", "a:b", "é"),
]
PLACES = [
    ("robots/igris_b/robot.yaml", "policy", ".yaml"),
    ("robots/igris_b/robot.yaml", "driver", ".py"),
    ("robots/igris_b/" + PARAMS_FILE, "norm_stats_file_path", ".json"),
    ("policies/flow_demo/policy.yaml", "checkpoint_path", ""),
    ("policies/flow_demo/policy.yaml", "norm_stats_path", ".json"),
    ("policies/flow_demo/policy.yaml", "model component_config_paths flow", ".yaml"),
    ("policies/flow_demo/components/flow.yaml", "class", ""),
]


@pytest.mark.parametrize(("file", "key", "ending"), PLACES)
def test_a_path_that_leads_nowhere_is_refused_in_a_sentence(
    configs: Path, file: str, key: str, ending: str, scale: Scale, dice: random.Random
) -> None:
    path = configs / file
    policy = configs / "policies" / "flow_demo" / "policy.yaml"
    encode = as_json if path.suffix == ".json" else as_yaml
    original = content_of(path)

    def load() -> None:
        if "policies" in file:
            loaded(policy)
        else:
            launched(configs, "igris_b")

    for name in some_paths(path.parent, ending, scale, dice):
        content = copy.deepcopy(original)
        put(content, key, name)
        found = written(path, encode(content), load)
        assert found == "refused" or (path.parent / name).exists(), repr(name)


@pytest.mark.parametrize("flag", ["--robot", "-P", "--inference_runtime_params_config"])
def test_a_flag_with_a_path_that_leads_nowhere_is_refused_in_a_sentence(
    configs: Path, flag: str, scale: Scale, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(configs)
    for name in some_paths(configs, "" if flag == "--robot" else ".json", scale, dice):
        if "\0" not in name:  # nobody can type it
            found = outcome(lambda name=name: launched(configs, "igris_b", flag, name))
            assert found == "refused", repr(name)


def some_paths(folder: Path, ending: str, scale: Scale, dice: random.Random) -> list[str]:
    """PATHS with the `ending` that is looked for and without; one of them is a link to itself."""
    (folder / f"loop{ending}").symlink_to(f"loop{ending}")
    names = sorted({*PATHS, *(f"{name}{ending}" for name in PATHS)})
    return dice.sample(names, min(len(names), scale.examples // 4))


def test_the_detector_is_not_blind() -> None:
    """The control: a traceback, two lines and an endless sentence are each noticed."""

    def fail(error: Exception) -> Callable[[], None]:
        def attempt() -> None:
            raise error

        return attempt

    for error in (ValueError("x"), RtError("a\nb"), RtError("x" * 2000), RtError("elsewhere")):
        with pytest.raises((AssertionError, ValueError)):
            outcome(fail(error), "/here")
