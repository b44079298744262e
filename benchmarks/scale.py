"""How an evaluation grows with its corpus: time, memory and documents a second where embedding is nearly free.

In the loop is the whole pipeline of the evaluator, in one process: a data set that makes its texts as they are read,
in blocks on a thread, the TextEmbedder port with a table of vectors behind it, rows for exact search, then 100 queries,
their search, six metrics and bootstrap intervals. Out of it: gRPC, tokenizing and the model. Documents a second are
those of the corpus's part, the time is that of everything; of several rounds the fastest counts.

A virtual machine may have returned its free memory to the host, and then waits at each page's first use, ever longer
than the pipeline takes for what it writes there. So memory is used by another process, and freed, right before.

    python -m benchmarks.scale [--rounds 3] [--quick] [--json FILE]
"""

import asyncio
import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.common import OURS, Goal, Report, arguments, table
from embedscale.core.dataset import DatasetCard, Judgements
from embedscale.core.embedding import EmbeddedTexts, InputType, Matrix
from embedscale.core.evaluation import EvaluationSpec, Progress, Stage
from embedscale.evaluator.index import build_index
from embedscale.evaluator.pipeline import Pipeline

DIMENSIONS = 384
QUERIES = 100
SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (10_000, 50_000, 100_000)
ROUNDS = 3
RATE_GOAL = 50_000
MEMORY_GOAL_FACTOR, MEMORY_GOAL_BYTES = 1.3, 500e6
LINEAR_GOAL = 1.15


@dataclass(frozen=True)
class SyntheticDataset:
    """`size` documents that exist only while they are read."""

    size: int

    @property
    def card(self) -> DatasetCard:
        """See `Dataset`."""
        return DatasetCard("synthetic:", "0" * 64, QUERIES, self.size)

    def documents(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return ((f"d{i}", f"The text of document {i}.") for i in range(self.size))

    def queries(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return ((f"q{i}", f"A question about document {i}?") for i in range(QUERIES))

    def judgements(self, query_ids: Sequence[str]) -> list[Judgements]:
        """See `Dataset`."""
        return [{f"d{query[1:]}": 1} for query in query_ids]


@dataclass(frozen=True)
class Datasets:
    """The source of one."""

    size: int

    async def load(self, uri: str) -> SyntheticDataset:
        """See `DatasetSource`."""
        return SyntheticDataset(self.size)

    def cards(self) -> Sequence[DatasetCard]:
        """See `DatasetSource`."""
        return ()


class TableEmbedder:
    """A row of a table, with the text's number in it so that no two are equal: embedding costs a copy."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        table = random.standard_normal((8192, DIMENSIONS)).astype(np.float32)
        self._table: Matrix = table / np.linalg.norm(table, axis=1, keepdims=True)
        self._next = 0

    async def embed(self, _: EvaluationSpec, texts: Sequence[str], __: InputType) -> EmbeddedTexts:
        """See `TextEmbedder`."""
        numbers = np.arange(self._next, self._next + len(texts))
        self._next += len(texts)
        vectors = self._table[numbers % len(self._table)]
        vectors[:, 0] = 0.01 + (numbers * 0.6180339887498949) % 1
        return EmbeddedTexts(vectors, "table", 0, 0.0, 0, 0)


@dataclass(frozen=True)
class Measured:
    """One evaluation: seconds of the corpus stage and of all, and the greatest resident memory."""

    size: int
    corpus_seconds: float
    seconds: float
    peak_bytes: int


def measured(size: int) -> Measured:
    """Evaluate once, in this process."""
    began: dict[Stage, float] = {}

    def report(progress: Progress) -> None:
        began.setdefault(progress.stage, time.perf_counter())

    pipeline = Pipeline(Datasets(size), TableEmbedder(), build_index)
    bring_memory(goal_bytes(size))
    started = time.perf_counter()
    asyncio.run(pipeline.run(EvaluationSpec("table", "synthetic:", (5,)), report))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(size, began[Stage.SCORE_QUERIES] - began[Stage.EMBED_CORPUS], seconds, peak)


def bring_memory(count: float) -> None:
    """Have the machine hold so many bytes of free memory, as numpy asks for it: another process uses it and ends."""
    subprocess.run([sys.executable, "-c", f"import numpy; numpy.ones({int(count)}, numpy.uint8)"], check=True)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of which the fastest counts")
    options = parser.parse_args()
    sizes, rounds = (QUICK_SIZES, 1) if options.quick else (SIZES, options.rounds)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a fresh process for each peak
        runs = pool.map(measured, sizes * rounds, chunksize=1)
    report({size: [run for run in runs if run.size == size] for size in sizes}).finish(options.json)


def report(runs: Mapping[int, Sequence[Measured]]) -> Report:
    """Put the fastest round of each size, and the greatest memory, into a report."""
    rows = [row(size, measured) for size, measured in runs.items()]
    headers = ("documents", "seconds in all", "documents/s, corpus part", "µs a document, in all", "peak MB", "goal MB")
    figures = {
        "documents a second, corpus part": {
            f"{size:,} documents": {OURS: [size / run.corpus_seconds for run in measured]}
            for size, measured in runs.items()
        },
        "peak resident memory, MB": {
            f"{size:,} documents": {
                OURS: [run.peak_bytes / 1e6 for run in measured],
                "goal, at most": [goal_bytes(size) / 1e6],
            }
            for size, measured in runs.items()
        },
    }
    facts = {"dimensions": DIMENSIONS, "queries": QUERIES}
    return Report("scale", [table(headers, rows)], goals(runs), figures, facts)


def row(size: int, runs: Sequence[Measured]) -> list[str]:
    """A row of the table."""
    return [
        f"{size:,}",
        f"{fastest(runs):.2f}",
        f"{rate(size, runs):,.0f}",
        f"{1e6 * fastest(runs) / size:.1f}",
        f"{peak(runs) / 1e6:,.0f}",
        f"{goal_bytes(size) / 1e6:,.0f}",
    ]


def goals(runs: Mapping[int, Sequence[Measured]]) -> list[Goal]:
    """Linear in time, bounded in memory, fast; the smallest size fits a cache and counts for memory alone."""
    _, middle, largest = runs
    each = [fastest(runs[size]) / size for size in (largest, middle)]
    speeds = {size: rate(size, runs[size]) for size in (middle, largest)}
    slowest = min(speeds, key=speeds.__getitem__)
    fullest = max(runs, key=lambda size: peak(runs[size]) / goal_bytes(size))
    share = peak(runs[fullest]) / goal_bytes(fullest)
    return [
        Goal(
            f"time a document, {largest:,} against {middle:,}",
            *(f"{1e6 * seconds:.1f} µs" for seconds in each), each[0] / each[1], LINEAR_GOAL, at_most=True,
        ),
        Goal(
            f"memory with {fullest:,}, of 1.3 times the index and 500 MB", f"{peak(runs[fullest]) / 1e6:,.0f} MB", "",
            share, 1, at_most=True,
        ),
        Goal(
            f"documents a second with {slowest:,}, of {RATE_GOAL:,}", f"{speeds[slowest]:,.0f}/s", "",
            speeds[slowest] / RATE_GOAL, 1,
        ),
    ]  # fmt: skip


def fastest(runs: Sequence[Measured]) -> float:
    """Seconds of the fastest round."""
    return min(run.seconds for run in runs)


def rate(size: int, runs: Sequence[Measured]) -> float:
    """Documents a second of the corpus's part, in the fastest round."""
    return size / min(run.corpus_seconds for run in runs)


def peak(runs: Sequence[Measured]) -> int:
    """Greatest resident memory of any round, in bytes."""
    return max(run.peak_bytes for run in runs)


def goal_bytes(size: int) -> float:
    """Memory that so many documents may take, in bytes."""
    return MEMORY_GOAL_FACTOR * size * DIMENSIONS * 4 + MEMORY_GOAL_BYTES


if __name__ == "__main__":
    main()
