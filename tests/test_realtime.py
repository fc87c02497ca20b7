"""Real time: what is asked for is read back, and what was not granted is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from launched import ROOT, WITHOUT_RIGHTS

ENTER = """
import json, os, sys
import msgspec
from rt.config import Realtime
from rt.control import realtime
from rt.cores import divide, scheduling
from rt.errors import RealtimeError
asked = Realtime(priority=41)
core = divide("last").control
try:
    grants = realtime.enter(asked, core, require="require" in sys.argv)
except RealtimeError as error:
    print(json.dumps({"error": str(error)}))
else:
    child = os.fork()
    if not child:
        os._exit(scheduling(0).scheduler == "SCHED_FIFO")
    inherited = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    locked = next(l for l in open("/proc/self/status") if l.startswith("VmLck"))
    print(json.dumps({
        "grants": {g.name: msgspec.to_builtins(g) for g in grants},
        "seen": scheduling(0), "core": core, "locked_kb": int(locked.split()[1]),
        "inherited": inherited,
    }))
"""


def enter(*arguments: str, before: tuple[str, ...] = ()) -> dict:
    """Enter real time in a process of its own."""
    ended = subprocess.run(
        [*before, sys.executable, "-c", ENTER, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_every_grant_is_what_the_kernel_says() -> None:
    entered = enter()
    grants = entered["grants"]
    scheduler, priority, cpus = entered["seen"]
    assert grants["scheduler"]["ok"] == (scheduler == "SCHED_FIFO" and priority == 41)
    assert grants["scheduler"]["granted"].startswith(scheduler)
    if entered["core"] is not None:
        assert cpus == [entered["core"]]
    assert grants["memory lock"]["ok"] == (entered["locked_kb"] > 0)
    assert grants["garbage collector"]["ok"]


def test_children_do_not_inherit_real_time() -> None:
    entered = enter()
    if not entered["grants"]["scheduler"]["ok"]:
        pytest.skip("SCHED_FIFO is not granted here: " + entered["grants"]["scheduler"]["granted"])
    assert entered["inherited"] == 0


def test_what_is_not_granted_names_its_remedy_and_is_an_error_where_required() -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to give the rights up")
    grants = enter(before=WITHOUT_RIGHTS)["grants"]
    assert not grants["scheduler"]["ok"]
    assert "rtprio" in grants["scheduler"]["remedy"]
    refused = enter("require", before=WITHOUT_RIGHTS)["error"]
    assert "--require_rt" in refused
    assert "scheduler" in refused
