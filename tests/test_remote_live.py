"""A launch whose policy is in another process, behind a socket, with nothing faked."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from launched import ROOT, Launched, run_module, unique_session
from scripted_server import ScriptedServer
from served import Served

from rt.infer.pipeline import FAILURES_IN_A_ROW

DEMO = ROOT / "configs/policies/flow_demo/policy.yaml"


@pytest.mark.slow
def test_a_launch_outlives_its_policy_server(tmp_path: Path) -> None:
    with Served(DEMO) as server:
        yaml = tmp_path / "policy.yaml"
        # A machine that is shared takes seconds for a chunk.
        asks = {
            "type": "remote_policy",
            "url": f"ws://127.0.0.1:{server.port}",
            "deadline_ms": 4000,
        }
        yaml.write_text(json.dumps({"policy": asks}))
        patient = ("--set", "min_num_actions_executed=2")  # more rows are left for a slow chunk
        with Launched("remote", "-P", str(yaml), *patient) as launch:
            seen = launch.when_chunks(3)
            assert seen["inference"]["outcomes"]["OK"] >= 3
            server.signal(signal.SIGKILL)
            server.wait()
            holds = ("EXPIRED", "NO_CHUNK")  # the latter where an episode has just begun
            launch.when("the chunk's end", lambda s: s["tick_stats"]["hold"] in holds)
            seen = launch.when(
                "more of it than a fault may last",
                lambda s: s["inference"]["outcomes"]["UNREACHABLE"] > 2 * FAILURES_IN_A_ROW,
            )
            chunks, pid = seen["inference"]["published"], launch.pid("inference")
            server.start()
            launch.when("more chunks", lambda s: s["inference"]["published"] > chunks + 2)
            launch.when("them executed", lambda s: s["tick_stats"]["hold"] == "NONE")
            assert launch.pid("inference") == pid  # it was never restarted
            assert launch.stop() == 0
        launch.nothing_left()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("url: http://127.0.0.1:1", "expected ws://HOST:PORT"),
        ("url: ws://127.0.0.1:1, connect_timeout_s: 0.2", "no policy server at ws://127.0.0.1:1"),
        ("url: ws://127.0.0.1:1, api_key_file: key", "key: expected a file whose first line is"),
    ],
)
def test_what_cannot_be_asked_ends_a_launch_with_a_sentence(
    tmp_path: Path, options: str, words: str
) -> None:
    yaml = tmp_path / "policy.yaml"
    yaml.write_text(f"policy: {{type: remote_policy, {options}}}\n")
    session = unique_session("remote")
    ended = run_module("rt.launch", "--robot", "igris_b", "-P", str(yaml), "--session", session)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_policy_of_another_shape_ends_a_launch_before_anything_moves(tmp_path: Path) -> None:
    with ScriptedServer(key="a key that is long") as server:
        (tmp_path / "key").write_text("a key that is long")
        yaml = tmp_path / "policy.yaml"
        yaml.write_text(f"policy: {{type: remote_policy, url: {server.url}, api_key_file: key}}\n")
        session = unique_session("remote")
        ended = run_module("rt.launch", "--robot", "igris_b", "-P", str(yaml), "--session", session)
        assert ended.returncode == 2
        assert "dims.action_dim: the model has 2, but" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert server.requests == []
