"""For tests of the configuration: a copy of the shipped files, to break."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rt.config import Config
from rt.config import load as config_load
from rt.config.load import PARAMS_FILE, TOPICS_FILE, Loaded, load_config
from rt.errors import ConfigError
from rt.launcher.options import parse

SHIPPED = Path(__file__).parents[1] / "configs"
LEFT = "/observation/joint_pos/left"
HANDS = ("/observation/hand_joint_pos/left", "/observation/hand_joint_pos/right")
FILES = {"robot": "robot.yaml", "params": PARAMS_FILE, "topics": TOPICS_FILE}

Edit = Callable[[dict[str, Any]], object]


class Folder:
    """A copy of `configs/` to break."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.robot = root / "robots" / "igris_b"

    def path(self, section: str) -> Path:
        return self.robot / FILES[section]

    def edit(self, section: str, change: Edit) -> None:
        """Change the file's content through `change(mapping)`."""
        path = self.path(section)
        mapping = yaml.safe_load(path.read_text())
        change(mapping)
        text = yaml.safe_dump(mapping) if section == "robot" else json.dumps(mapping)
        path.write_text(text)


@pytest.fixture(name="folder")
def copied_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The loader reads this copy of a robot and its policy; the current folder is empty."""
    root = tmp_path / "configs"
    for folder in ("robots/igris_b", "policies/flow_demo"):
        shutil.copytree(SHIPPED / folder, root / folder)
    monkeypatch.setattr(config_load, "configs_folder", lambda: root)
    monkeypatch.chdir(tmp_path)
    return Folder(root)


def load(*flags: str) -> Loaded:
    return load_config(parse(["--robot", "igris_b", *flags]))


def load_set(*overrides: str) -> Config:
    return load(*(part for text in overrides for part in ("--set", text))).config


def refusal(*flags: str) -> str:
    """The one sentence with which `flags` are refused."""
    with pytest.raises(ConfigError) as caught:
        load(*flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(mapping: dict[str, Any], keys: str, value: object) -> None:
    """Store `value`; `keys` are parted by spaces."""
    *way, last = keys.split()
    inner: Any = mapping
    for key in way:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[int(last) if isinstance(inner, list) else last] = value
