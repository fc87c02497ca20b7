"""A mistake in what a fleet is told is one sentence, before anything is deployed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from launched import ROOT

from rt.errors import RtError
from rt.serve.fleet import app
from rt.serve.fleet_options import Options, read_key, read_options

DEMO = str(ROOT / "configs/policies/flow_demo/policy.yaml")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "args: expected a key 'policies' .* got none: add it"),
        ({"policies": {}}, "args: policies: expected a policy's YAML at least, got none"),
        ({"policies": {"a": DEMO}, "prot": 1}, "args: unknown key 'prot': did you mean 'port'"),
        ({"policies": {"a": "no.yaml"}}, "no.yaml: expected a file, but nothing is there"),
        ({"policies": "no.yaml"}, "no.yaml: expected a file, but nothing is there"),
        ({"policies": {"a": str(ROOT / "Makefile")}}, "expected a file whose name ends in"),
        ({"policies": {"a/b": DEMO}}, "expected names of letters, digits, _ and -, .* got 'a/b'"),
        ({"policies": {"": DEMO}}, "expected names of letters"),
        ({"policies": {"straße": DEMO}}, "expected names of letters"),
        ({"policies": f"{{a: {DEMO}, a: {DEMO}}}"}, "args: policies: .*the key 'a' twice"),
        ({"policies": f"{{a: {DEMO}"}, "args: policies: expected a YAML value such as"),
        ({"policies": {"a": DEMO}, "port": 0}, "args: port: expected .* >= 1 .*, got 0"),
        ({"policies": {"a": DEMO}, "port": "65536"}, "args: port: expected .* 65535"),
        ({"policies": {"a": DEMO}, "port": "http"}, "args: port: expected .* got text 'http'"),
        ({"policies": {"a": DEMO}, "max_batch": 65}, "args: max_batch: expected .*, got 65"),
        ({"policies": {"a": DEMO}, "host": "0.0.0.0"}, "args: host 0.0.0.0: beyond this machine"),
        ({"policies": {"a": DEMO}, "host": "no.such.invalid"}, "host: expected a name or an addr"),
        (
            {"policies": {"a": DEMO}, "api_key_file": "none"},
            "args: api_key_file /.*/none: expected",
        ),
        ({"policies": {"a": DEMO}, "api_key_file": "", "host": "0.0.0.0"}, "api_key_file"),
        ({"policies": {"a": DEMO}, "tls_cert": DEMO}, "expected both --tls_cert and --tls_key"),
        ({"policies": {"a": DEMO}, "tls_cert": DEMO, "tls_key": DEMO}, "expected a PEM certif"),
        (
            {"policies": {"sways": str(ROOT / "configs/policies/sway/policy.yaml")}},
            "args: policies.sways: expected a policy that carries nothing from chunk to chunk",
        ),
    ],
)
def test_a_mistake_is_one_sentence(args: dict[str, Any], words: str) -> None:
    with pytest.raises(RtError, match=words) as told:
        app(args)
    assert "\n" not in str(told.value)


def test_paths_are_absolute_and_texts_are_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("k" * 20)
    monkeypatch.chdir(ROOT)
    told = read_options(
        {
            "policies": "{a: configs/policies/flow_demo/policy.yaml}",
            "port": "8101",
            "host": "0.0.0.0",
            "api_key_file": str(tmp_path / "key"),
            "version": "2",
        }
    )
    expected = Options(
        policies={"a": DEMO},
        port=8101,
        host="0.0.0.0",
        api_key_file=str(tmp_path / "key"),
        version=2,
    )
    assert told == expected
    assert read_key(told) == "k" * 20
    alone = read_options({"policies": "configs/policies/flow_demo/policy.yaml"})
    assert alone == Options(policies={"flow_demo": DEMO})


def test_the_shipped_fleet_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    told = yaml.safe_load((ROOT / "configs/fleet.yaml").read_text())
    (application,) = told["applications"]
    deployed = {one["name"] for one in application["deployments"]}
    assert application["import_path"] == "rt.serve.fleet:app"
    assert deployed == {"Model", "Front"}
    assert app(application["args"])


def test_without_ray_the_command_is_told() -> None:
    code = "import sys; sys.modules['ray'] = None; import rt.serve.fleet"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "pip install -e '.[fleet]'" in ended.stderr.splitlines()[-1]
