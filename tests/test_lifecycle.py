"""A session's life: it starts, survives what can be survived, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launched import Launched, alive, replaced, run_module, segments, unique_session, until

KEYS = {
    *("session", "robot", "algorithm", "algorithm_params", "io", "tick", "rate_hz"),
    *("processes", "joints", "dry_run", "tick_stats", "chunk", "inference", "rings"),
    *("cameras", "cameras_apart_ms"),
}


def test_launch_inspect_stop() -> None:
    with Launched("e2e") as run:
        snapshot = run.when(
            "a warm chunk in use", lambda s: s["chunk"]["id"] >= 1 and not s["chunk"]["cold"]
        )
        assert set(snapshot) == KEYS
        assert snapshot["session"] == run.session
        assert (snapshot["algorithm"], snapshot["io"]) == ("rtc", "sim")
        names = {p["name"] for p in snapshot["processes"]}
        assert names == {"supervisor", "control", "inference", "sim"}
        left_arm, _, left_hand, _ = snapshot["joints"]
        assert left_arm["group"] == "left_arm"
        assert left_arm["measured_deg"] == pytest.approx([-20, -30, 0, 120, 0, 0], abs=6)
        assert left_hand["commanded_deg"] == pytest.approx([10] * 6, abs=6)
        chunk = snapshot["chunk"]
        assert chunk["H"] == len(chunk["actions"]) == len(chunk["weights"]) == 50
        assert 0 <= chunk["row"] < 50
        assert chunk["weights"][: chunk["d_planned"]] == [1.0] * chunk["d_planned"]

        dumped = run_module("rt.inspect", "--session", run.session)
        assert dumped.returncode == 0, dumped.stderr
        assert f"session {run.session}" in dumped.stdout
        assert run.stop() == 0, run.output
        assert "summary" in run.output
        run.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_it_in_order(number: signal.Signals) -> None:
    delay = random.Random(number).uniform(0.3, 8.0)  # at many more: chaos/sessions/test_starts.py
    with Launched("sig") as run:
        time.sleep(delay)
        run.signal(number)
        assert run.wait() == 0, run.output
        assert "Traceback" not in run.output
        run.nothing_left()


def test_a_signal_while_control_is_still_importing_ends_it_in_order() -> None:
    def imports(run: Launched) -> bool:
        listed = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text()
        # A child may end while we look at it.
        with contextlib.suppress(FileNotFoundError):
            commands = (Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed.split())
            return any(b"rt.control.process" in command for command in commands)
        return False

    with Launched("early") as run:
        until("control to be spawned", lambda: imports(run))
        assert run.stop() == 0, run.output
        run.nothing_left()


def test_a_second_ctrl_c_forces_the_end() -> None:
    with Launched("twice") as run:
        control = run.pid("control")
        os.kill(control, signal.SIGSTOP)  # so that stopping in order takes its full second
        run.signal(signal.SIGINT)
        time.sleep(0.4)  # two at once are one
        run.signal(signal.SIGINT)
        assert run.wait() == 1
        assert "not shut down" in run.output
        run.nothing_left()


def test_a_terminal_that_hangs_up_several_times_still_ends_it_in_order() -> None:
    with Launched("hangup") as run:
        run.when_chunks(1)
        for _ in range(3):
            run.signal(signal.SIGHUP)
        run.signal(signal.SIGTERM)
        assert run.wait() == 0, run.output
        assert "killed" not in run.output
        run.nothing_left()


def test_a_control_that_hangs_ends_the_session_and_the_robot_is_said_not_to_be_shut_down() -> None:
    with Launched("hang") as run:
        run.when_chunks(1)
        os.kill(run.pid("control"), signal.SIGSTOP)
        assert run.wait() == 1, run.output
        assert "has run no tick" in run.output
        run.nothing_left()


def test_killed_control_ends_the_session_with_an_error() -> None:
    with Launched("kill-control") as run:
        run.when_chunks(1)
        os.kill(run.pid("control"), signal.SIGKILL)
        assert run.wait() not in (0, 2)
        assert "control" in run.output
        assert "SIGKILL" in run.output
        run.nothing_left()


def test_killed_inference_is_restarted_and_chunk_ids_go_on() -> None:
    with Launched("kill-infer") as run:
        before = run.when_chunks(2)
        victim = run.pid("inference")
        os.kill(victim, signal.SIGKILL)
        published = before["inference"]["published"]
        after = run.when(
            "chunks of a new inference process",
            lambda s: s["chunk"]["id"] > published and replaced(s, "inference", victim),
        )
        assert after["chunk"]["id"] > before["chunk"]["id"]
        assert after["tick"] > before["tick"]
        assert run.stop() == 0, run.output
        assert "restarted (1 of" in run.output
        run.nothing_left()


def test_killed_simulator_is_restarted() -> None:
    with Launched("kill-sim") as run:
        run.when_chunks(1)
        victim = run.pid("sim")
        os.kill(victim, signal.SIGKILL)
        run.when(
            "a new simulator, and control executing again",
            lambda s: s["tick_stats"]["hold"] == "NONE" and replaced(s, "sim", victim),
        )
        assert run.stop() == 0, run.output
        run.nothing_left()


def test_stalled_inference_is_killed_and_restarted_while_control_holds() -> None:
    with Launched("stall", "--set", "params.inference_timeout_s=4") as run:
        run.when_chunks(1)
        victim = run.pid("inference")
        os.kill(victim, signal.SIGSTOP)
        starved = ("EXPIRED", "NO_CHUNK")  # the chunk ends, or the episode does
        run.when("control holds", lambda s: s["tick_stats"]["hold"] in starved)
        run.when(
            "a new inference process at work",
            lambda s: s["tick_stats"]["hold"] == "NONE" and replaced(s, "inference", victim),
        )
        assert not alive(victim)
        assert run.stop() == 0, run.output
        run.nothing_left()


def test_no_second_control_starts_while_one_lives_without_its_supervisor() -> None:
    with Launched("orphan") as run:
        run.when_chunks(1)
        control = run.pid("control")
        os.kill(control, signal.SIGSTOP)  # it cannot leave
        run.process.kill()
        run.process.wait()
        refused = run_module("rt.launch", "--robot", "igris_b", "--session", run.session)
        assert refused.returncode == 2
        assert str(control) in refused.stderr
        assert "Traceback" not in refused.stderr
        os.kill(control, signal.SIGCONT)
        until("control to hold and leave", lambda: not alive(control))
        assert segments(run.session) != []  # a killed supervisor cannot clean

        with Launched("orphan", "--duration", "1", session=run.session) as again:
            assert again.wait() == 0, again.output
            assert "removed what a dead session left" in again.output
            again.nothing_left()


def test_after_kill_9_of_everything_inspect_says_so_and_cleans() -> None:
    with Launched("kill-all") as run:
        snapshot = run.when_chunks(1)
        pids = [p["pid"] for p in snapshot["processes"]]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        run.process.wait()
        until("all of them to be gone", lambda: not any(map(alive, pids)))
        gone = run_module("rt.inspect", "--session", run.session)
        assert gone.returncode == 3
        assert "--clean" in gone.stderr
        assert len(gone.stderr.splitlines()) == 1
        assert run_module("rt.inspect", "--clean", "--session", run.session).returncode == 0
        assert segments(run.session) == []


def test_a_live_session_is_refused_naming_its_pid() -> None:
    with Launched("live") as run:
        run.pid("supervisor")
        second = run_module("rt.launch", "--robot", "igris_b", "--session", run.session)
        assert second.returncode == 2
        assert str(run.process.pid) in second.stderr
        assert run.stop() == 0, run.output
        run.nothing_left()


def test_orders_are_answered_and_obeyed() -> None:
    # Nothing is commanded, so that no success ends an episode between two orders.
    with Launched("orders", "--dry_run") as run:
        run.when_chunks(1)

        def order(*words: str) -> int:
            return run_module("rt.command", *words, "--session", run.session).returncode

        def phase(name: str) -> dict[str, object]:
            return run.when(name, lambda s: s["tick_stats"]["phase"] == name)

        assert order("resume") == 1  # refused: it is not paused
        assert order("pause") == 0
        paused = phase("PAUSED")
        assert order("success") == 1
        assert order("resume") == 0
        assert phase("RUN")["tick"] > paused["tick"]
        assert order("prompt", "reach the ball") == 0
        episode = phase("RUN")["tick_stats"]["episode"]
        assert order("next_episode") == 0
        run.when("the next episode", lambda s: s["tick_stats"]["episode"] > episode)
        run.when_chunks(1)
        phase("RUN")
        assert order("success") == 0
        assert order("stop") == 0
        assert run.wait() == 0, run.output
        assert re.search(r"episodes +\d+ ended, [1-9]\d* successful", run.output)
        run.nothing_left()


def test_inspect_maps_everything_read_only_and_its_death_goes_unnoticed() -> None:
    with Launched("readonly") as run:
        run.when_chunks(1)
        watcher = subprocess.Popen(
            [
                *(sys.executable, "-m", "rt.inspect", "--watch", "--json"),
                *("--interval", "0.01", "--session", run.session),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert watcher.stdout is not None
            watcher.stdout.readline()
            maps = Path(f"/proc/{watcher.pid}/maps").read_text().splitlines()
            ours = [line for line in maps if f"rt.{run.session}." in line]
            assert ours
            assert {line.split()[1] for line in ours} == {"r--s"}
            before = run.inspect()
            watcher.send_signal(signal.SIGSTOP)  # the worst reader: stuck in the middle
            after = run.when("ticks", lambda s: before and s["tick"] > before["tick"] + 20)
            assert before
            assert after["tick_stats"]["robot_faults"] == before["tick_stats"]["robot_faults"]
        finally:
            watcher.kill()
            watcher.communicate()
        assert run.stop() == 0, run.output


def test_dry_run_computes_and_commands_nothing() -> None:
    with Launched("dry", "--dry-run") as run:
        snapshot = run.when_chunks(2)
        ring = next(r for r in snapshot["rings"] if r["name"] == "sim.command")
        assert ring["head"] == 0
        assert run.stop() == 0, run.output
        run.nothing_left()


def test_sequential_plans_and_executes_in_one_process() -> None:
    with Launched("seq", "--inference-algorithm=sequential", "--inject-delay-ms", "150") as run:
        snapshot = run.when(
            "two plans, executed",
            lambda s: s["inference"]["published"] >= 2 and s["tick_stats"]["planning"] > 0,
        )
        pids = {p["name"]: p["pid"] for p in snapshot["processes"]}
        assert pids["control"] == pids["inference"] == run.process.pid
        assert snapshot["chunk"]["mode"] == "sequential"
        assert run.stop() == 0, run.output
        assert "Traceback" not in run.output
        run.nothing_left()


def test_no_session_is_exit_3_and_one_sentence() -> None:
    missing = run_module("rt.inspect", "--session", unique_session("none"))
    assert missing.returncode == 3
    assert len(missing.stderr.splitlines()) == 1
