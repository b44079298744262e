"""Child processes that log to a file, are stopped in order, and never outlive their parent."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embedscale.cli.errors import CommandFailed

_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


class Child:
    """A process in a session of its own, so that Ctrl-C reaches only its parent, which then stops it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - no other thread runs when children are started
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise CommandFailed, with the last line of the log, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text("utf-8", "replace").strip().splitlines()
            said = lines[-1] if lines else "it said nothing"
            raise CommandFailed(f"{self.name} ended with {code}: {said} (log: {self.log})", 2 if code == 2 else 3)

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL if it takes too long."""
        self._process.terminate()
        for _ in range(round(_STOP_SECONDS / _POLL_SECONDS)):
            if self._process.poll() is not None:
                return
            await asyncio.sleep(_POLL_SECONDS)
        self._process.kill()
        self._process.wait()


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the kernel kills the child when its parent dies, however that dies; elsewhere nothing does."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
