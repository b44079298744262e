"""One service on a host of its own: the processes that it is, and how they are started, stopped and looked after."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.hosts import Host

START_SECONDS = 120.0
_STOP_SECONDS = 40.0
_DIE_WITH_US = (sys.executable, "-m", "embedscale.cli.die_with_parent")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


@dataclass
class Service:
    """Commands that run on one host, none of which outlives this program; `ready` says whether it answers."""

    host: Host
    commands: Sequence[Sequence[str]]
    folder: Path
    ready: Callable[[], bool]
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.host.name}.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.processes = [
                subprocess.Popen(
                    [*_DIE_WITH_US, str(os.getpid()), *self.host.inside(command)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True,
                )
                for command in self.commands
            ]  # fmt: skip

    def wait(self) -> None:
        """Until it answers. Raises RuntimeError with the end of its log if it has ended or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            ended = [process.returncode for process in self.processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"{self.host.name} {ended}: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def stop(self) -> None:
        """Ask it to end, as a rollout does, and wait until it has."""
        self.signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(_STOP_SECONDS)


def environment() -> dict[str, str]:
    """Ours without settings for servers started by hand, and without proxies: all hosts are on this machine."""
    left_out = tuple(name for name in os.environ if name.startswith("EMBEDSCALE_") or name.lower() in _PROXIES)
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
