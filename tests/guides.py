"""Guides as a reader follows them: files are saved, commands run in one shell, and what they print is compared."""

import contextlib
import doctest
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:#|//) ([\w.-]+)\n")
_VARYING = re.compile(r"~[\d.]+")
_ALIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_END = "=== end of a step ==="
SECONDS = 600


@dataclass(frozen=True)
class Step:
    """Commands, what the page says that they print, and what they printed."""

    commands: str
    shown: str
    printed: str

    def __str__(self) -> str:
        return f"{self.commands}--- shown\n{self.shown}--- printed\n{self.printed}"

    def as_shown(self) -> bool:
        """`...` stands for anything, a number after `~` for any number, and a space for any."""
        shown, printed = (_VARYING.sub("~", text) for text in (self.shown, self.printed))
        return shown == printed or doctest.OutputChecker().check_output(shown, printed, _ALIKE)


def followed(guide: Path, folder: Path, replaced: Mapping[str, str], programs: Path) -> list[Step]:
    """Save the files of a guide in a folder and run its blocks of `sh`; `programs` come first in PATH.

    `replaced` are words of the page, such as ports. What is still running at the end is killed.
    """
    page = guide.read_text("utf-8")
    for word, other in replaced.items():
        page = re.sub(rf"\b{re.escape(word)}\b", other, page)
    steps = []
    for language, content, shown in _BLOCK.findall(page):
        if language == "sh":
            steps.append((content, shown))
        elif name := _NAME.match(content):
            (folder / name[1]).write_text(content)
    script = "exec 2>&1\n" + "".join(f"{commands}echo '{_END}'\n" for commands, _ in steps)
    printed = _run(script, folder, programs)
    return [Step(*step, said) for step, said in zip(steps, printed, strict=True)]


def _run(script: str, folder: Path, programs: Path) -> list[str]:
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "EVALCTL_CONFIG": str(folder / "contexts.json")}
    output = folder / "printed"
    with output.open("wb") as opened:
        shell = subprocess.Popen(
            ["bash", "-c", script], cwd=folder, stdout=opened, stderr=opened, env=environment, start_new_session=True
        )
    try:
        shell.wait(SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    *printed, _ = output.read_text("utf-8").split(f"{_END}\n")
    return printed
