"""What a session keeps to its user, and what no file that it reads can make it do."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from config_folder import FILES, Folder, refusal
from config_folder import copied_folder as copied_folder
from launched import ROOT, SHM, Launched, segments, unique_session

from rt.errors import SessionLiveError, ShmError
from rt.infer.acceleration import compile_cache, set_compile_cache
from rt.records import STATUS
from rt.session import Lock, Session, holder, session_names
from rt.shm import Ring

SOURCES = sorted((ROOT / "rt").rglob("*.py"))
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def name() -> Iterator[str]:
    name = unique_session("safe")
    yield name
    for left in segments(name):
        (SHM / left).unlink(missing_ok=True)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def as_nobody(act: Callable[[], object]) -> None:
    os.seteuid(NOBODY)
    try:
        act()
    finally:
        os.seteuid(0)


# What lies in /dev/shm and in the cache.


def test_segments_and_locks_are_their_owners_alone_whatever_the_umask(
    name: str, no_umask: None
) -> None:
    Session(name).create({"status.control": (STATUS, 4)})
    with Lock(name, "supervisor"), Lock(name, "control"):
        for left in segments(name):
            status = (SHM / left).stat()
            assert stat.S_IMODE(status.st_mode) == 0o600, left
            assert status.st_uid == os.geteuid()


def test_all_that_a_run_makes_is_its_owners_alone() -> None:
    """Every segment and lock of a real launch with a umask that lets everybody do everything; and
    no process of it listens on a socket."""
    before = os.umask(0)
    try:
        run = Launched("private")
    finally:
        os.umask(before)
    with run:
        seen = run.when("control to run", lambda s: s["tick"] >= 0)
        assert len(segments(run.session)) > 8
        for left in segments(run.session):
            assert stat.S_IMODE((SHM / left).stat().st_mode) == 0o600, left
        for process in seen["processes"]:
            files = Path(f"/proc/{process['pid']}/fd").iterdir()
            opened = [str(file.readlink()) for file in files if file.is_symlink()]
            assert not [o for o in opened if o.startswith("socket:")], process["name"]
            assert {o for o in opened if o.startswith("/tmp")} <= {str(run.log)}


@as_root
def test_another_users_segment_is_not_read_even_if_it_may_be(name: str) -> None:
    """Somebody can make a segment of ours before us, and let everybody open it."""
    ring = f"rt.{name}.tick"
    Ring.create(ring, np.dtype([("n", "i8")])).close()
    os.chown(SHM / ring, NOBODY, NOBODY)
    (SHM / ring).chmod(0o666)
    for attach in (Ring.attach, Ring.open_writer):
        with pytest.raises(ShmError, match="another user's"):
            attach(ring)


@pytest.mark.parametrize("made", ["link", "dangling link", "pipe", "folder", "second name"])
def test_a_lock_follows_nothing_that_somebody_left_in_its_place(
    name: str, made: str, tmp_path: Path
) -> None:
    """The file that it would have overwritten stays as it is, and nobody waits."""
    lock, victim = SHM / f"rt.{name}.control.lock", SHM / f"victim.{name}"
    victim.write_text("precious")
    try:
        {
            "link": lambda: lock.symlink_to(victim),
            "dangling link": lambda: lock.symlink_to(tmp_path / "new"),
            "pipe": lambda: os.mkfifo(lock),
            "folder": lock.mkdir,
            "second name": lambda: lock.hardlink_to(victim),
        }[made]()
        with pytest.raises(SessionLiveError, match=r"is not a lock of ours.*--session"):
            Lock(name, "control")
        assert holder(name, "control") == 0  # somebody, who is not to be told
        assert victim.read_text() == "precious"
        assert not (tmp_path / "new").exists()
    finally:
        victim.unlink()
        lock.rmdir() if made == "folder" else lock.unlink()


@as_root
def test_another_users_lock_is_neither_taken_nor_believed(name: str) -> None:
    """Its pid could be any process's."""
    lock = SHM / f"rt.{name}.control.lock"
    lock.write_text("1")
    os.chown(lock, NOBODY, NOBODY)
    lock.chmod(0o666)
    with pytest.raises(SessionLiveError, match=f"made by user {NOBODY}"):
        Lock(name, "control")
    assert holder(name, "control") == 0
    assert lock.read_text() == "1"


@as_root
def test_another_user_cannot_look_at_a_session_or_take_it(name: str) -> None:
    Session(name).create({"status.control": (STATUS, 4)})
    with Lock(name, "control"):

        def try_it() -> None:
            with pytest.raises(ShmError, match="another user's"):
                Session(name).reader("status.control")
            with pytest.raises(SessionLiveError):
                Lock(name, "control")
            assert holder(name, "control") == 0

        as_nobody(try_it)
        assert holder(name, "control") == os.getpid()


def test_a_name_that_no_session_can_have_is_passed_over(name: str) -> None:
    odd = SHM / f"rt.{name} or another.tick"
    odd.touch()
    try:
        assert all(n.isascii() and " " not in n for n in session_names())
    finally:
        odd.unlink()


def test_compiled_code_is_kept_where_its_user_alone_can_write(
    tmp_path: Path, no_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run again without being asked: a folder for temporary files would be everybody's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    set_compile_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(compile_cache())
    for folder in (compile_cache(), compile_cache().parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# What is read.

CODE_FROM_DATA = {
    *("eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler"),
    *("marshal.load", "marshal.loads", "shelve.open", "dill.load", "joblib.load", "os.system"),
    *("cloudpickle.load", "cloudpickle.loads", "torch.hub.load", "os.popen"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"),
}
# The restricted one, whose tests are in test_normalization.py.
RESTRICTED = {("rt/infer/statistics_pickle.py", "pickle.Unpickler")}
SAFELY = {"torch.load": ("weights_only", True), "yaml.load": ("Loader", "_Loader")}
NEVER = {"allow_pickle": True, "shell": True}
MODULES = {what.rpartition(".")[0] for what in CODE_FROM_DATA | SAFELY.keys()} - {""}


def complaints(source: str, path: str) -> list[str]:
    """What in a source could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        # Under another name it would not be found below.
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in names if name in CODE_FROM_DATA | SAFELY.keys()]
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.asname and a.name in MODULES]
        if isinstance(node, ast.ClassDef):
            found += [called for base in node.bases if (called := named(base)) in CODE_FROM_DATA]
        if not isinstance(node, ast.Call):
            continue
        called, given = named(node.func), {k.arg: said(k.value) for k in node.keywords}
        if called in CODE_FROM_DATA:
            found.append(called)
        if called in SAFELY and given.get(SAFELY[called][0]) != SAFELY[called][1]:
            found.append(called)
        found += [key for key, value in NEVER.items() if given.get(key) == value]
    return [what for what in found if (path, what) not in RESTRICTED]


def named(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def said(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert complaints(path.read_text(), str(path.relative_to(ROOT))) == []


@pytest.mark.parametrize(
    "source",
    [
        "pickle.loads(data)",
        "class U(pickle.Unpickler): pass",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
        "from pickle import loads",
        "from torch import load as read",
        "import yaml as y",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert complaints(source, "rt/x.py")


@pytest.mark.parametrize("section", FILES)
def test_a_tag_in_yaml_makes_no_object(folder: Folder, section: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for tag in ("object/apply:os.mkdir", "object/new:os.mkdir", "name:os.mkdir"):
        folder.path(section).write_text(f"a: !!python/{tag} ['{ran}']")
        assert "expected valid" in refusal()
    assert "--set HZ=!!python" in refusal("--set", f"HZ=!!python/object/apply:os.mkdir ['{ran}']")
    assert not ran.exists()


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    from rt.errors import CheckpointError
    from rt.infer.checkpoint import load_checkpoint

    ran = tmp_path / "ran"

    class Malice:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(ran),)

    torch.save({"weight": Malice()}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_checkpoint(torch.nn.Linear(1, 1), tmp_path, "net")
    assert not ran.exists()


# What a configuration may reach.


def test_a_run_writes_nothing_but_its_segments(tmp_path: Path) -> None:
    """Reading a configuration, its policy and its statistics touches no file, wherever its paths
    lead: every file is opened to be read."""
    program = (
        "import os, sys\n"
        "opened = []\n"
        "def hook(event, args):\n"
        "    if event == 'open' and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):\n"
        "        opened.append(args[0])\n"
        "    if event in ('os.mkdir', 'os.rename', 'os.remove', 'os.symlink', 'shutil.rmtree'):\n"
        "        opened.append((event, args))\n"
        "from rt.launcher.options import parse\n"
        "from rt.launcher.prepare import check_run\n"
        "from rt.config.load import load_config\n"
        "from rt.infer.loader import build_policy\n"
        "sys.addaudithook(hook)\n"
        "config = load_config(parse(['--robot', 'igris_b'])).config\n"
        "check_run(config)\n"
        "build_policy(config.run.policy_yaml_path)\n"
        "print(opened)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
