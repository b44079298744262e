"""Runs `evalctl` as a person and as a script do."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

EVALCTL = Path(sys.executable).with_name("evalctl")
PORTS = ("--embedder-port", "--proxy-port", "--evaluator-port", "--redis-port", "--openai-port")
"""Options of `up`."""


@dataclass
class Evalctl:
    """Runs commands against a home of its own."""

    home: Path
    timeout: float = 600
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {"EMBEDSCALE_HOME": str(self.home), "EVALCTL_CONFIG": str(self.home / "contexts.json")}
        return {**os.environ, **own, **self.more}

    def __call__(self, *arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [EVALCTL, *arguments],
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=self.timeout,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [EVALCTL, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """Every process that was started with this home."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("EMBEDSCALE_HOME") == str(
                    self.home
                ):
                    found.append(process)
        return found

    def ports(self) -> set[int]:
        """Every port that a process of this home listens on."""
        return {
            connection.laddr.port
            for process in self.processes()
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 120
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


@contextlib.contextmanager
def up(evalctl: Evalctl, *options: str) -> Iterator[str]:
    """Have a cluster in the home; yields what `up` printed."""
    started = evalctl("up", "--detach", *options)
    assert started.returncode == 0, started.stderr
    try:
        yield started.stdout
    finally:
        stopped = evalctl("down")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    evalctl.wait_until_gone()


def refused(result: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """One clear line, nothing on standard output, and the code."""
    last = [line for line in result.stderr.splitlines() if line.startswith("evalctl: ")]
    assert result.returncode == code, result.stderr
    assert len(last) == 1, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in last[0]


def evaluated(evalctl: Evalctl, model: str, dataset: str) -> str:
    """Id of a new evaluation."""
    run = evalctl("run", "--model", model, "--dataset", dataset, "-o", "json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)["evaluations"][0]["name"].removeprefix("evaluations/")
