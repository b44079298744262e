"""Bash at a terminal, for what a shell does only there."""

import os
import pty
import select
import subprocess
import time
from typing import Self

from tests.e2e.evalctl import Evalctl


class Terminal:
    """Types keys and reads what is shown."""

    def __init__(self, evalctl: Evalctl) -> None:
        self._screen, keyboard = pty.openpty()
        self._bash = subprocess.Popen(
            ["bash", "--norc", "-i"],
            env=evalctl.environment,
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
            start_new_session=True,
        )
        os.close(keyboard)

    def type(self, keys: str, shown: str, seconds: float = 60) -> None:
        """Type keys and wait until something is shown."""
        os.write(self._screen, keys.encode())
        seen, end = "", time.monotonic() + seconds
        while shown not in seen and time.monotonic() < end:
            if select.select([self._screen], [], [], 0.1)[0]:
                seen += os.read(self._screen, 65536).decode(errors="replace")
        assert shown in seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._bash.kill()
        self._bash.wait()
        os.close(self._screen)
