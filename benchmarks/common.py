"""What the benchmarks share: servers in processes of their own, medians and ranges, goals, reports, tables."""

import argparse
import asyncio
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT, Machine, commit, machine, versions
from embedscale.evaluator import builtin
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

WORK = ROOT / ".bench"
"""Where peers are installed and the last results lie; not part of the project."""
AI_ACT = ROOT.parent / "shared" / "datasets" / "ai-act"
OURS = "Embedscale"

Runs = Sequence[float]
Figures = Mapping[str, Mapping[str, Mapping[str, Runs]]]
"""What was measured: by a quantity with its unit, by what was done, and by who did it, a figure a round."""


@dataclass(frozen=True)
class Goal:
    """A promise and what was measured: `value` is a ratio or share, reached at `goal` or better.

    `peer` is empty where nothing was measured beside ours. `share` is what ours is of the machine's limit, where that
    is known, and `runs` are the ratios of the rounds of which `value` is the median.
    """

    what: str
    ours: str
    peer: str
    value: float
    goal: float
    at_most: bool = False
    share: float | None = None
    runs: Runs = ()

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def worse_than(self, before: "Goal", slack: float) -> bool:
        """Whether it is worse by more than such a share; of the goal, where the figure before was zero."""
        room = slack * (before.value or before.goal)
        return self.value > before.value + room if self.at_most else self.value < before.value - room

    @property
    def cells(self) -> list[str]:
        """A row of the summary."""
        sign = "≤" if self.at_most else "≥"
        answer = "met" if self.met else "**missed**"
        share = "" if self.share is None else f"{self.share:.0%}"
        return [self.what, self.ours, self.peer, short(self.value), f"{sign} {self.goal:g}", answer, share]


GOAL_HEADERS = ("what", "ours", "peer", "ratio", "goal", "met", "of the limit")


def goal_table(goals: Sequence[Goal]) -> str:
    """Write goals as a table, with shares of the limit where one is known."""
    count = len(GOAL_HEADERS) - (not any(goal.share is not None for goal in goals))
    return table(GOAL_HEADERS[:count], [goal.cells[:count] for goal in goals])


@dataclass
class Report:
    """What one benchmark found: its own tables as Markdown, the goals and the figures. `peers` are versions."""

    name: str
    tables: list[str]
    goals: list[Goal]
    figures: Figures
    facts: dict[str, Any] = field(default_factory=dict)
    peers: Mapping[str, str] = field(default_factory=dict)
    machine: Machine = field(default_factory=machine)
    commit: str = field(default_factory=commit)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())

    @property
    def markdown(self) -> str:
        """All of it as text."""
        goals = [goal_table(self.goals)] if self.goals else []
        measured = f"Measured on {self.date} at commit {self.commit or 'unknown'}: {self.machine}."
        return "\n\n".join([measured, *self.tables, *goals])

    @property
    def content(self) -> dict[str, Any]:
        """All of it as JSON, in an order that does not change."""
        return {
            "name": self.name,
            "version": importlib.metadata.version("embedscale"),
            "commit": self.commit,
            "date": self.date,
            "machine": asdict(self.machine),
            "packages": versions() | dict(self.peers),
            "goals": [_rounded(asdict(goal) | {"met": goal.met}) for goal in self.goals],
            "facts": _rounded(self.facts),
            "figures": _rounded(self.figures),
        }

    def finish(self, path: Path | None) -> None:
        """Print it, and write it to a file if one is named."""
        print(self.markdown)
        if path:
            write_json(path, self.content | {"markdown": self.markdown})


def write_json(path: Path, content: object) -> None:
    """Write a file that diffs read well."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _rounded(content: Any) -> Any:
    """Round to four digits: the others are noise."""
    if isinstance(content, Mapping):
        return {name: _rounded(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return float(f"{content:.4g}") if isinstance(content, float) else content


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Build a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--quick", action="store_true", help="some seconds of each, once: to see that it runs")
    return parser


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table in Markdown; all columns but the first to the right."""
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def median(runs: Runs) -> float:
    """Median of the runs."""
    return float(np.median(runs))


def short(value: float) -> str:
    """Write a ratio so that small ones show too."""
    return f"{value:.2f}" if abs(value) >= 0.1 or not value else f"{value:.2g}"


def spread(runs: Runs, digits: int = 2) -> str:
    """Write median and range."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(runs), median(runs), max(runs)))
    return f"{middle} ({low} to {high})"


def ratios(ours: Runs, theirs: Runs) -> list[float]:
    """Ratio of each pair of runs: those of one round saw the same machine."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


Server = AbstractContextManager[tuple[str, "subprocess.Popen[bytes]"]]


def embedder(model: str, *options: str, memory: int = 0) -> Server:
    """Start a server in a process of its own, by default without a cache; its address once it listens, and the process.

    `memory` is the size in bytes of the cache in the server's memory.
    """
    return server("embedscale.embedder", f"--models={model}", f"--cache-memory-bytes={memory}", *options)


@contextmanager
def server(module: str, *options: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Start one of our servers in a process of its own; its address once it listens, and the process."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        quiet = [f"--port-file={port_file}", "--drain-seconds=1", "--log-level=error"]
        process = subprocess.Popen([sys.executable, "-m", module, *quiet, *options])
        try:
            while not port_file.exists():
                if process.poll() is not None:
                    raise SystemExit("the server did not start")
                time.sleep(0.05)
            yield f"127.0.0.1:{port_file.read_text()}", process
        finally:
            process.terminate()
            process.wait()


async def until_ready(stub: EmbeddingServiceStub) -> None:
    """Wait until a server's model answers; it has one."""
    while (await stub.ListModels(pb.ListModelsRequest())).models[0].state != pb.MODEL_STATE_READY:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


Content = Mapping[str, Any]
"""A data set in LlamaIndex's JSON layout."""


def data_sets(folder: Path = AI_ACT, *, quick: bool = False) -> dict[str, Content]:
    """Sets by language, of a folder or, where there is none, the built-in ones; if quick, a part of the English one."""
    if folder.is_dir():
        paths = {path.stem.removesuffix("_dataset"): path for path in sorted(folder.glob("*.json"))}
        found = {name: json.loads(path.read_text("utf-8")) for name, path in paths.items()}
    else:
        found = {language.upper(): _built_in(language) for language in ("cs", "en", "fr", "hu")}
    return {"EN": _part(found["EN"])} if quick else found


def _part(content: Content, chunks: int = 24) -> Content:
    """The first chunks of a set, and the questions that they answer."""
    corpus = dict(list(content["corpus"].items())[:chunks])
    relevant = {query: found for query, found in content["relevant_docs"].items() if set(found) <= set(corpus)}
    queries = {query: content["queries"][query] for query in relevant}
    return {"queries": queries, "corpus": corpus, "relevant_docs": relevant, "mode": "text"}


def _built_in(language: str) -> Content:
    dataset = builtin.load(f"builtin:velmar/{language}")
    relevant = {query: list(grades) for query, grades in dataset.qrels.items()}
    return {"queries": dataset.query_texts, "corpus": dataset.corpus, "relevant_docs": relevant, "mode": "text"}


def texts_fact(folder: Path = AI_ACT) -> dict[str, Any]:
    """Name of the texts, a fact without which two results cannot be compared."""
    return {"texts": folder.name if folder.is_dir() else "builtin:velmar"}
