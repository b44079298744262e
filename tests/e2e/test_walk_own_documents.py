"""The walk with one's own documents prints what the guide shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.e2e.evalctl import Evalctl

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "walk-own-documents.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
SCRIPT = re.compile(r"```python\n(.*?)```", re.DOTALL)
NEXT = "next: evalctl compare "
SHOWN_FOLDER = "/home/ada/handbook"
SERVED = "50051"
VARYING = re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{8}\b|[+-]?\d[\d,.]*")


def shape(line: str, folder: Path) -> str:
    """The line without numbers, ids, and widths of columns."""
    line = re.sub(r"\(log: .*\)", "(log)", line.replace(str(folder), SHOWN_FOLDER))
    return " ".join(VARYING.sub("N", line).split())


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Every command of the guide, with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(BLOCK.findall(text)).splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line and line != "...":
            found[-1][1].append(line)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the guide has its reader copy, in a folder with a space in its name."""
    work = tmp_path / "my documents"
    shutil.copytree(ROOT / "docs" / "examples", work)
    return work


@pytest.mark.slow
def test_the_guide_is_true(alone: Evalctl, folder: Path) -> None:
    port = str(free_port())
    text = GUIDE.read_text("utf-8").replace(SERVED, port)
    (script,) = SCRIPT.findall(text)
    (folder / "search.py").write_text(script)
    bin_first = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = alone.environment | {"PATH": bin_first}
    ids, walked = "", commands(text)
    assert len(walked) == 18
    try:
        for command, shown in walked:
            done = subprocess.run(  # the guide is ours
                re.sub(r"compare .*", f"compare {ids}", command), shell=True, cwd=folder, env=environment,
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            said = done.stdout if done.stdout.strip() else done.stderr
            assert "Traceback" not in done.stderr
            if NEXT in said:
                ids = said.rpartition(NEXT)[2].strip()
            printed = {shape(line, folder) for line in said.splitlines()}
            assert {shape(line, folder) for line in shown} <= printed, command
    finally:
        alone("down")
