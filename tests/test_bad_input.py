"""A user's mistake, through the real command line: one clear sentence, exit 2, nothing left."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from launched import ROOT, SHM, WITHOUT_RIGHTS, run_module, segments, unique_session

from rt import records
from rt.session import ring_name
from rt.shm import Ring

ROBOT = ROOT / "configs/robots/igris_b"
POLICY = ROOT / "configs/policies/flow_demo"


def refused(*arguments: str, robot: str = "igris_b", session: str = "") -> str:
    """Run a launch that must be refused; returns its sentence."""
    session = session or unique_session("bad")
    before = {p.name for p in SHM.glob("rt.*")} - set(segments(session))
    ended = run_module("rt.launch", "--robot", robot, "--session", session, *arguments)
    assert ended.returncode == 2, ended
    assert "Traceback" not in ended.stderr + ended.stdout
    sentence = ended.stderr.strip()
    assert len(sentence.splitlines()) == 1, sentence
    left = {p.name for p in SHM.glob(f"rt.{session}.*")}
    assert left - before == set(), left
    return sentence


def copied_policy(folder: Path, **changes: Any) -> Path:
    """The demo policy's files in `folder`, with keys of its YAML changed (None: removed)."""
    shutil.copytree(POLICY, folder / "policy")
    path = folder / "policy/policy.yaml"
    content = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return path


def test_unknown_robot_lists_the_names() -> None:
    assert "igris_b" in refused(robot="igris")


@pytest.mark.parametrize(
    "content", [b"", b'{"HZ": 20', b"\xff\xfe\x00", b'{"HZ": "twenty"}', b"[1, 2]"]
)
def test_broken_params_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.json"
    path.write_bytes(content)
    assert str(path) in refused("--inference_runtime_params_config", str(path))


def test_missing_files_are_named(tmp_path: Path) -> None:
    for flag in ("--inference_runtime_params_config", "--inference_runtime_topics_config", "-P"):
        assert "nothing.json" in refused(flag, str(tmp_path / "nothing.json"))


def test_unknown_key_offers_the_nearest(tmp_path: Path) -> None:
    params = json.loads((ROBOT / "inference_runtime_params.json").read_text())
    path = tmp_path / "params.json"
    path.write_text(json.dumps(params | {"action_dimm": 24}))
    sentence = refused("--inference_runtime_params_config", str(path))
    assert "action_dimm" in sentence
    assert "action_dim" in sentence.replace("action_dimm", "")
    assert "ticks_per_row" in refused("--set", "params.ticks_per_rows=2")


@pytest.mark.parametrize("value", ["0", "-20"])
def test_hz_must_be_positive(value: str) -> None:
    assert "HZ" in refused("--set", f"params.HZ={value}")


def test_hz_of_both_files_must_agree() -> None:
    sentence = refused("--set", "params.HZ=10")
    assert "10" in sentence
    assert "20" in sentence


@pytest.mark.parametrize(
    ("key", "value"), [("action_dim", 23), ("proprio_state_dim", 25), ("action_chunk_size", 40)]
)
def test_dims_that_disagree_are_named_with_their_values(key: str, value: int) -> None:
    sentence = refused("--set", f"params.{key}={value}")
    assert str(value) in sentence
    assert ("50" if key == "action_chunk_size" else "24") in sentence


def test_unregistered_policy_type_lists_the_registered(tmp_path: Path) -> None:
    path = copied_policy(tmp_path, policy={"type": "flaw"})
    assert "flow" in refused("-P", str(path))


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    path = copied_policy(tmp_path)
    for weights in path.parent.glob("checkpoints/*"):
        weights.unlink()
    assert "flow" in refused("-P", str(path))


def test_a_checkpoint_that_would_run_code_is_refused_unrun(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = copied_policy(tmp_path)
    for weights in path.parent.glob("checkpoints/*"):
        weights.unlink()
    torch.save({"weights": Malice()}, path.parent / "checkpoints/flow.pt")
    assert "flow.pt" in refused("-P", str(path))
    (path.parent / "checkpoints/flow.pt").write_bytes(pickle.dumps(Malice()))
    assert "flow.pt" in refused("-P", str(path))
    assert not (tmp_path / "ran").exists()


def test_a_policy_trained_for_the_simulator_is_refused_on_real_io() -> None:
    for io in ("ros2", "dds"):
        sentence = refused("--io", io)
        assert "trained" in sentence
        assert io in sentence
        assert "or start the fake robot first" in sentence


def test_a_fake_robot_cannot_be_claimed() -> None:
    assert "trained" in refused("--io", "dds", "--set", "run.fake=mine", "--set", "robot_id=no_one")


def test_an_io_that_the_robot_lacks_is_answered_with_those_that_it_has(tmp_path: Path) -> None:
    path = copied_policy(tmp_path, trained_for=None)
    assert "expected --io dds or --io ros2 or --io sim" in refused("--io", "tcp", "-P", str(path))


def test_a_missing_extra_is_answered_with_its_pip_command() -> None:
    without = "import sys; sys.modules['mujoco'] = None; from rt.launch import main; sys.exit(main("
    session = unique_session("extra")
    code = f"{without}['--robot', 'igris_b', '--session', '{session}']))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "pip install -e '.[sim]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert segments(session) == []


def test_a_chunk_too_short_for_s_min_and_the_latency_names_the_figures() -> None:
    sentence = refused("--inject_delay_ms", "2000", "--set", "params.min_num_actions_executed=35")
    assert "50" in sentence
    assert "35" in sentence
    assert " ms " in sentence


def test_a_segment_of_another_layout_is_refused_by_its_reader() -> None:
    session = unique_session("layout")
    name = ring_name(session, "tick")
    with Ring.create(name, np.dtype([("tick", "i8")])):
        try:
            with pytest.raises(Exception, match="expected"):
                Ring.attach(name, dtype=records.tick_dtype(24, 24))
        finally:
            Ring.unlink(name)


def launched_with_dev_shm(mount: str) -> subprocess.CompletedProcess[str]:
    """A launch in a mount namespace of its own, whose /dev/shm `mount` prepares. Prints the exit
    code and what is then in /dev/shm."""
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("needs the right to mount in a namespace of its own (CAP_SYS_ADMIN)")
    launch = f"{sys.executable} -m rt.launch --robot igris_b"
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} && {launch}; echo $?; ls /dev/shm"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_full_dev_shm_is_refused_with_both_figures() -> None:
    ended = launched_with_dev_shm("mount -t tmpfs -o size=4m tmpfs /dev/shm")
    assert ended.stdout.splitlines() == ["2"]  # the exit code, and nothing in /dev/shm
    assert len(ended.stderr.splitlines()) == 1
    assert "/dev/shm" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_dev_shm_without_a_single_page_left_is_refused_too() -> None:
    full = "mount -t tmpfs -o size=4k tmpfs /dev/shm && echo x > /dev/shm/other"
    ended = launched_with_dev_shm(full)
    assert ended.stdout.splitlines() == ["2", "other"]
    assert len(ended.stderr.splitlines()) == 1
    assert "/dev/shm is full" in ended.stderr


def test_real_time_is_not_required_of_sequential_mode() -> None:
    assert "sequential" in refused("--require_rt", "--inference_algorithm", "sequential")


def test_a_policy_slower_than_its_timeout_names_both_figures() -> None:
    sentence = refused("--inject_delay_ms", "700", "--set", "params.inference_timeout_s=1")
    assert "inference_timeout_s" in sentence
    assert "1 s" in sentence


def test_a_prompt_that_is_no_text_and_an_interval_that_is_none_are_refused() -> None:
    for module, *arguments in (
        ("rt.command", "prompt", b"\xff"),
        ("rt.inspect", "--watch", "--interval", "-1"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert ended.returncode in (2, 3)  # 3: no session, which is looked for first
        assert "Traceback" not in ended.stderr


def test_a_session_name_is_checked() -> None:
    ended = run_module("rt.launch", "--robot", "igris_b", "--session", "../evil")
    assert ended.returncode == 2
    assert "../evil" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_require_rt_without_the_rights_names_what_is_missing_and_its_remedy() -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to give the rights up")
    session = unique_session("nort")
    ended = subprocess.run(
        [
            *WITHOUT_RIGHTS,
            *(sys.executable, "-m", "rt.launch", "--robot", "igris_b"),
            *("--session", session, "--require_rt"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended
    assert "Traceback" not in ended.stderr
    assert "scheduler" in ended.stderr
    assert "rtprio" in ended.stderr
    assert segments(session) == []
