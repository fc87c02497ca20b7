"""A policy that is made of no components: it needs neither `model` nor torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from launched import ROOT, unique_session

from rt.errors import ConfigError
from rt.infer import build_policy
from rt.infer.policy_config import declared_dims, load_policy_config
from rt.testing import ScriptedPolicy

POLICY = """policy:
  type: rt.testing:ScriptedPolicy
  action_chunk_size: 8
  action_dim: 2
"""
RUN = """
import sys
from rt.child import Status
from rt.infer.process import open_pipeline
from rt.records import STATUS, Hold, Phase
from rt.session import Session, ring_table
from rt.testing import config

made = config(session=sys.argv[1], policy_yaml_path=sys.argv[2])
session = Session(made.run.session)
session.create(ring_table(made) | {"status.inference": (STATUS, 4)})
try:
    with Status(session, "inference") as status:
        pipeline = open_pipeline(made, session, status)
        record = session.writer("tick").buffer()
        record["phase"], record["hold"], record["chunk"] = Phase.RUN, Hold.NO_CHUNK, -1
        assert pipeline.step(record)
        told = session.reader("status.inference").buffer()
        session.reader("status.inference").read_latest(told)
finally:
    session.clean()
print(told["detail"].item().decode())
sys.exit("torch" in sys.modules)
"""


def write(folder: Path, text: str = POLICY) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_it_is_built_of_nothing(tmp_path: Path) -> None:
    config = load_policy_config(write(tmp_path))
    assert (config.components, config.component_paths, declared_dims(config)) == ({}, {}, {})
    assert isinstance(build_policy(config.path), ScriptedPolicy)


def test_it_runs_without_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, unique_session("bare"), str(write(tmp_path))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(" ms a chunk\n"), "on no device of ours"


def test_a_policy_that_is_made_of_some_is_told_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "policy: {type: sway}\n")
    with pytest.raises(ConfigError, match=r"policy\.yaml: expected a key 'model'.*sway\.Sway"):
        build_policy(path)


def test_a_checkpoint_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    path = write(tmp_path, f"{POLICY}checkpoint_path: checkpoints\n")
    with pytest.raises(ConfigError, match=r"policy\.yaml: checkpoint_path: expected a key 'model'"):
        load_policy_config(path)


def test_a_keyword_that_ends_in_file_is_a_path_beside_the_yaml(tmp_path: Path) -> None:
    text = "  key_file: key\n  other_file: /etc/key\n  file: name\n  last_file: 3\n  no_file:\n"
    kwargs = load_policy_config(write(tmp_path, POLICY + text)).kwargs
    assert kwargs["key_file"] == str(tmp_path / "key")
    assert kwargs["other_file"] == "/etc/key"
    assert (kwargs["file"], kwargs["last_file"], kwargs["no_file"]) == ("name", 3, None)
