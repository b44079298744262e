"""How an evaluation grows with its corpus: time, memory and documents a second where embedding is nearly free.

In the loop is the whole pipeline of the evaluator, in one process: a data set that makes its texts as they are read,
in blocks on a thread, the TextEmbedder port with a table of vectors behind it, rows for exact search, then 100 queries,
their search, six metrics and bootstrap intervals. Out of it: gRPC, tokenizing and the model. Documents a second are
those of the corpus's part, the time is that of everything; of several rounds the fastest counts.

    python benchmarks/scale.py [--quick] [--json FILE]
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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

    def known(self) -> Sequence[str]:
        """See `DatasetSource`."""
        return ()


class TableEmbedder:
    """A row of a table, with the text's number in it so that no two are equal: embedding costs a copy."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        table = random.standard_normal((8192, DIMENSIONS)).astype(np.float32)
        self._table: Matrix = table / np.linalg.norm(table, axis=1, keepdims=True)
        self._next = 0

    async def price(self, model: str) -> float:
        """See `TextEmbedder`."""
        return 0.0

    async def embed(self, _: EvaluationSpec, texts: Sequence[str], __: InputType) -> EmbeddedTexts:
        """See `TextEmbedder`."""
        numbers = np.arange(self._next, self._next + len(texts))
        self._next += len(texts)
        vectors = self._table[numbers % len(self._table)]
        vectors[:, 0] = 0.01 + (numbers * 0.6180339887498949) % 1
        return EmbeddedTexts(vectors, "table", 0, 0, 0)


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
    started = time.perf_counter()
    asyncio.run(pipeline.run(EvaluationSpec("table", "synthetic:", (5,)), report))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(size, began[Stage.SCORE_QUERIES] - began[Stage.EMBED_CORPUS], seconds, peak)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 to 100,000 documents, once each")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of which the fastest counts")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    sizes, rounds = (QUICK_SIZES, 1) if arguments.quick else (SIZES, arguments.rounds)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a fresh process for each peak
        runs = pool.map(measured, sizes * rounds, chunksize=1)
    report(sizes, runs, arguments.json)


def report(sizes: Sequence[int], runs: Sequence[Measured], path: Path | None) -> None:
    """Print the fastest round of each size, and whether the goals are reached."""
    rows = [_row(size, [run for run in runs if run.size == size]) for size in sizes]
    print(f"{'documents':>10} {'seconds':>9} {'documents/s':>12} {'time a document':>16} {'MB peak':>9} {'MB goal':>9}")
    least = min(row["seconds"] / row["documents"] for row in rows[1:])
    for row in rows:
        row["per_document_by_least"] = row["seconds"] / row["documents"] / least
        print(
            f"{row['documents']:>10,} {row['seconds']:>9.2f} {row['documents_per_second']:>12,.0f} "
            f"{row['per_document_by_least']:>16.2f} {row['peak_bytes'] / 1e6:>9.0f} {row['goal_bytes'] / 1e6:>9.0f}"
        )
    goals = {
        f"time linear within 15 %, {sizes[1]:,} to {sizes[-1]:,}": all(
            row["per_document_by_least"] <= LINEAR_GOAL for row in rows[1:]
        ),
        "memory at most 1.3 times the index plus 500 MB": all(row["peak_bytes"] <= row["goal_bytes"] for row in rows),
        f"at least {RATE_GOAL:,} documents a second": all(row["documents_per_second"] >= RATE_GOAL for row in rows[1:]),
    }
    for goal, reached in goals.items():
        print(f"{'reached' if reached else 'MISSED':>8}  {goal}")
    if path:
        path.write_text(json.dumps({"rows": rows, "goals": goals}, indent=2))


def _row(size: int, runs: Sequence[Measured]) -> dict[str, float]:
    seconds = min(run.seconds for run in runs)
    return {
        "documents": size,
        "seconds": seconds,
        "corpus_seconds": min(run.corpus_seconds for run in runs),
        "documents_per_second": size / min(run.corpus_seconds for run in runs),
        "peak_bytes": max(run.peak_bytes for run in runs),
        "goal_bytes": MEMORY_GOAL_FACTOR * size * DIMENSIONS * 4 + MEMORY_GOAL_BYTES,
    }


if __name__ == "__main__":
    main()
