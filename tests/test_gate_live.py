"""The operator's gate with everything real: the fake robot on DDS, launch, `rt.command`."""

from __future__ import annotations

from launched import Launched, run_module, until
from playing import Fake


def command(run: Launched, order: str) -> tuple[int, str]:
    ended = run_module("rt.command", order, "--session", run.session)
    return ended.returncode, ended.stdout


def test_nothing_is_sent_before_go_and_a_blocked_robot_waits_for_another() -> None:
    with Fake() as fake:
        who = ("--set", f"topics.robot_id={fake.robot_id}", "--set", f"run.domain={fake.domain}")
        with Launched("gate", "--io", "dds", *who, "--set", "warmup_ticks=5") as run:
            until("the preview", lambda: "it moves after" in run.output or run.process.poll())
            assert f"python -m rt.command go --session {run.session}" in run.output
            assert run.output.count("initial pose   ") == 1
            code, said = command(run, "pause")
            assert (code, said) == (
                1,
                "pause: refused, control is in phase WAITING: for rt.command go\n",
            )
            fake.settle()
            assert fake.stream("target_joints").commands == 0
            assert command(run, "go") == (0, f"go: done (session {run.session})\n")
            run.when("a row to be executed", lambda s: s["chunk"]["row"] >= 0)
            fake.fault("block 4")
            held = run.when("control to yield", lambda s: s["tick_stats"]["phase"] == "WAITING")
            assert "deg from its command (limit 30)" in held["tick_stats"]["why"]
            run.when("it to be over", lambda s: s["tick_stats"]["hold"] == "WAITING")
            assert command(run, "go")[0] == 0
            run.when("it to go on", lambda s: s["chunk"]["row"] >= 0)
            assert run.stop() == 0, run.output
            run.nothing_left()
