"""Child processes that log to a file, are stopped in order, and never outlive their parent."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedscale.cli.errors import CommandFailed

_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05
_KEPT = ("EMBEDSCALE_HOME", "EMBEDSCALE_UPSTREAM_KEY_", "EMBEDSCALE_CHAT_KEY_")


class Child:
    """A process in a session of its own, so that Ctrl-C reaches only its parent, which then stops it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "embedscale.cli.die_with_parent", str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(environment),
                start_new_session=True,
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


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Our environment without settings that are meant for servers started by hand, and without proxies on loopback."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EMBEDSCALE_") or name.startswith(_KEPT)
    }
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost")))
    return {**kept, "NO_PROXY": direct, "no_proxy": direct, **changes}
