"""The robots of docs/add_a_robot.md, written out as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

from launched import ROOT

GUIDE = (ROOT / "docs" / "add_a_robot.md").read_text()
# A paragraph that begins with a file's name, and the block that follows it.
BLOCK = re.compile(r"^`(seven\w*/[\w.]+)`(?:.+\n)+\n```\w+\n((?:.*\n)*?)```$", re.MULTILINE)
PARAMS = "inference_runtime_params.json"


def write_guide(root: Path) -> Path:
    """The guide's folders, below `root`."""
    for name, content in BLOCK.findall(GUIDE):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    (root / "seven" / PARAMS).write_text((root / "seven_ros" / PARAMS).read_text())
    return root
