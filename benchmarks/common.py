"""What the benchmarks share: servers in processes of their own, medians and ranges, goals, tables."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".bench"
"""Where peers are installed and results are kept; not part of the project."""
AI_ACT = ROOT.parent / "shared" / "datasets" / "ai-act"

Runs = Sequence[float]


def machine() -> str:
    """Describe the processor, and how busy it was in the last minute."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    kinds = [name for flag, name in _KINDS.items() if flag in flags]
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    load = f"load average {os.getloadavg()[0]:.1f} at the end"
    return ", ".join([f"{os.cpu_count()} cores", name, *kinds, f"Python {platform.python_version()}", load])


_KINDS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_int8": "AMX"}


@dataclass(frozen=True)
class Goal:
    """A promise and what was measured: `value` is a ratio or share, reached at `goal` or better."""

    what: str
    ours: str
    peer: str
    value: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def cells(self) -> list[str]:
        """A row of the summary."""
        sign = "≤" if self.at_most else "≥"
        answer = "met" if self.met else "**missed**"
        return [self.what, self.ours, self.peer, f"{self.value:.2f}", f"{sign} {self.goal:g}", answer]


GOAL_HEADERS = ("what", "ours", "peer", "ratio", "goal", "met")


@dataclass
class Report:
    """What one benchmark found: its own tables as Markdown, and the goals."""

    name: str
    tables: list[str]
    goals: list[Goal]
    figures: object
    machine: str = field(default_factory=machine)

    @property
    def markdown(self) -> str:
        """All of it as text."""
        goals = [table(GOAL_HEADERS, [goal.cells for goal in self.goals])] if self.goals else []
        return "\n\n".join([f"Machine: {self.machine}.", *self.tables, *goals])

    def finish(self, path: Path | None) -> None:
        """Print it, and write it to a file if one is named."""
        print(self.markdown)
        if path:
            goals = [asdict(goal) | {"met": goal.met, "cells": goal.cells} for goal in self.goals]
            content = {
                "name": self.name, "machine": self.machine, "figures": self.figures, "goals": goals,
                "markdown": self.markdown,
            }  # fmt: skip
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Build a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--quick", action="store_true", help="a few seconds of each: to see that it runs")
    return parser


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table in Markdown; all columns but the first to the right."""
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def median(runs: Runs) -> float:
    """Median of the runs."""
    return float(np.median(runs))


def spread(runs: Runs, digits: int = 2) -> str:
    """Write median and range."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(runs), median(runs), max(runs)))
    return f"{middle} ({low} to {high})"


def ratios(ours: Runs, theirs: Runs) -> list[float]:
    """Ratio of each pair of runs: those of one round saw the same machine."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


@contextmanager
def embedder(model: str, *options: str, memory: int = 0) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Start a server in a process of its own, by default without a cache; its address once it listens, and the process.

    `memory` is the size in bytes of the cache in the server's memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "embedscale.embedder", f"--models={model}", f"--port-file={port_file}"]
        quiet = [f"--cache-memory-bytes={memory}", "--drain-seconds=1", "--log-level=error"]
        process = subprocess.Popen([*command, *quiet, *options])
        try:
            while not port_file.exists():
                if process.poll() is not None:
                    raise SystemExit("the server did not start")
                time.sleep(0.05)
            yield f"127.0.0.1:{port_file.read_text()}", process
        finally:
            process.terminate()
            process.wait()


def question_sets(folder: Path) -> list[tuple[list[str], list[str]]]:
    """Questions and chunks of each set in a folder of LlamaIndex's JSON layout."""
    contents = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return [(list(content["queries"].values()), list(content["corpus"].values())) for content in contents]
