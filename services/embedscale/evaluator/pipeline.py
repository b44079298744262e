"""One evaluation from end to end: read, embed and index the corpus, embed, search and score the queries."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from embedscale.core.dataset import Dataset
from embedscale.core.embedding import EmbeddedTexts, InputType, Matrix
from embedscale.core.errors import UpstreamChanged
from embedscale.core.evaluation import EvaluationSpec, Progress, QueryResult, Result, Stage, Usage
from embedscale.core.ordered import in_order
from embedscale.core.ports import DatasetSource, TextEmbedder, VectorIndex
from embedscale.evaluator.metrics import first_relevant, measure, order

BLOCK = 16
BLOCKS_AHEAD = 3
_RUNNING_ROUNDS = 200
_RUNNING_SCORES = 50

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Pipeline:
    """What every evaluation needs."""

    datasets: DatasetSource
    embedder: TextEmbedder
    make_index: Callable[[int], VectorIndex]

    async def run(self, spec: EvaluationSpec, report: Report) -> tuple[Result, list[QueryResult]]:
        """Evaluate; `report` hears of every step. Raises errors of the domain's tree."""
        started = time.monotonic()
        report(Progress(Stage.READ_DATASET))
        dataset = await self.datasets.load(spec.dataset)
        run = _Run(spec, dataset, self.embedder, report)
        index = await run.index_corpus(self.make_index)
        results = await run.score_queries(index)
        result = await asyncio.to_thread(run.result)
        return replace(result, duration_seconds=time.monotonic() - started), results


@dataclass
class _Run:
    spec: EvaluationSpec
    dataset: Dataset
    embedder: TextEmbedder
    report: Report
    usage: Usage = field(default_factory=Usage)
    fingerprint: str = ""
    dimensions: int = 0
    progress: Progress = field(default_factory=Progress)
    measured: int = 0
    ranks: list[int] = field(default_factory=list)
    sources: list[tuple[str, ...]] = field(default_factory=list)

    async def index_corpus(self, make_index: Callable[[int], VectorIndex]) -> VectorIndex:
        """Embed all documents and add them to a new index, in the data set's order."""
        index: VectorIndex | None = None
        self._begin(Stage.EMBED_CORPUS, len(self.dataset.corpus))
        async for block in self._embedded(list(self.dataset.corpus.values()), InputType.DOCUMENT):
            index = index or make_index(block.vectors.shape[1])
            await asyncio.to_thread(index.add, block.vectors)
            await self._advance(len(block.vectors))
        assert index is not None, "a checked data set has documents"  # noqa: S101
        return index

    async def score_queries(self, index: VectorIndex) -> list[QueryResult]:
        """Embed, search and score all queries, in the data set's order."""
        queries, documents = list(self.dataset.queries), list(self.dataset.corpus)
        results: list[QueryResult] = []
        self._begin(Stage.SCORE_QUERIES, len(queries))
        async for block in self._embedded(list(self.dataset.queries.values()), InputType.QUERY):
            ids = queries[len(results) : len(results) + len(block.vectors)]
            ranked = await asyncio.to_thread(search, index, block.vectors, documents, max(self.spec.cutoffs))
            results += [self._scored(query, retrieved) for query, retrieved in zip(ids, ranked, strict=True)]
            await self._advance(len(ids))
        return results

    def result(self) -> Result:
        """Sum up, but for the duration."""
        return Result(
            metrics=measure(self.ranks, self.sources, self.spec.cutoffs),
            query_count=len(self.dataset.queries),
            document_count=len(self.dataset.corpus),
            usage=self.usage,
            fingerprint=self.fingerprint,
            dimensions=self.dimensions,
            dataset_digest=self.dataset.digest,
            duration_seconds=0.0,
        )

    def _scored(self, query: str, retrieved: Sequence[tuple[str, float]]) -> QueryResult:
        relevant = self.dataset.relevant[query]
        rank = first_relevant([document for document, _ in retrieved], relevant)
        self.ranks.append(rank)
        self.sources.append(tuple(sorted(relevant)))
        return QueryResult(query, rank, retrieved, relevant)

    async def _embedded(self, texts: Sequence[str], input_type: InputType) -> AsyncIterator[EmbeddedTexts]:
        """Blocks of vectors in order; the next ones are embedded while one is used."""

        async def embed(block: Sequence[str]) -> EmbeddedTexts:
            return await self.embedder.embed(self.spec, block, input_type)

        async with aclosing(in_order(embed, _blocks(texts), BLOCKS_AHEAD)) as blocks:
            async for block in blocks:
                self._account(block)
                yield block

    def _account(self, block: EmbeddedTexts) -> None:
        if self.fingerprint not in ("", block.fingerprint):
            raise UpstreamChanged(f"model {self.spec.model!r} changed its vector space during the evaluation")
        self.fingerprint, self.dimensions = block.fingerprint, block.vectors.shape[1]
        self.usage += Usage(block.tokens_used, len(block.vectors), block.cache_hits, block.truncated, block.cost)

    def _begin(self, stage: Stage, total: int) -> None:
        self.progress = Progress(stage, total=total, usage=self.usage)
        self.report(self.progress)

    async def _advance(self, count: int) -> None:
        done = self.progress.done + count
        running = self.progress.running
        due = done == self.progress.total or done - self.measured >= self.progress.total / _RUNNING_SCORES
        if self.ranks and due:
            running = await asyncio.to_thread(measure, self.ranks[:], self.sources, self.spec.cutoffs, _RUNNING_ROUNDS)
            self.measured = done
        self.progress = replace(self.progress, done=done, usage=self.usage, running=running)
        self.report(self.progress)


async def _blocks(texts: Sequence[str]) -> AsyncIterator[Sequence[str]]:
    for start in range(0, len(texts), BLOCK):
        yield texts[start : start + BLOCK]


def search(index: VectorIndex, queries: Matrix, documents: Sequence[str], cutoff: int) -> list[list[tuple[str, float]]]:
    """Documents and scores of each query up to the cutoff, ties ordered by document id.

    The index is asked for more than the cutoff until no tie reaches over the end of what it returned.
    """
    depth = cutoff + 1
    scores, rows = index.search(queries, depth)
    while scores.shape[1] < len(documents) and (scores[:, -1] == scores[:, min(cutoff, scores.shape[1]) - 1]).any():
        depth *= 2
        scores, rows = index.search(queries, depth)
    return [_ranked(row_scores, row_ids, documents, cutoff) for row_scores, row_ids in zip(scores, rows, strict=True)]


def _ranked(
    scores: Sequence[float], rows: Sequence[int], documents: Sequence[str], cutoff: int
) -> list[tuple[str, float]]:
    ids = [documents[row] for row in rows]
    return [(ids[i], float(scores[i])) for i in order(scores, ids)[:cutoff]]
