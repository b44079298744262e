"""One evaluation from end to end: read, embed and index the corpus, embed, search and score the queries."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import islice

from embedscale.core.dataset import Dataset, DatasetCard, Judgements
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
        card = await asyncio.to_thread(lambda: dataset.card)
        run = _Run(spec, dataset, card, self.embedder, report)
        index = await run.index_corpus(self.make_index)
        results = await run.score_queries(index)
        result = await asyncio.to_thread(run.result)
        return replace(result, duration_seconds=time.monotonic() - started), results


@dataclass
class _Run:
    spec: EvaluationSpec
    dataset: Dataset
    card: DatasetCard
    embedder: TextEmbedder
    report: Report
    usage: Usage = field(default_factory=Usage)
    fingerprint: str = ""
    dimensions: int = 0
    progress: Progress = field(default_factory=Progress)
    measured: int = 0
    ranks: list[int] = field(default_factory=list)
    sources: list[tuple[str, ...]] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)

    async def index_corpus(self, make_index: Callable[[int], VectorIndex]) -> VectorIndex:
        """Embed all documents and add them to a new index, in the data set's order."""
        index: VectorIndex | None = None
        self._begin(Stage.EMBED_CORPUS, self.card.document_count)
        async for ids, block in self._embedded(self.dataset.documents(), InputType.DOCUMENT):
            index = index or make_index(block.vectors.shape[1])
            await asyncio.to_thread(index.add, block.vectors)
            self.documents += ids
            await self._advance(len(ids))
        assert index is not None, "a checked data set has documents"  # noqa: S101
        return index

    async def score_queries(self, index: VectorIndex) -> list[QueryResult]:
        """Embed, search and score all queries, in the data set's order."""
        results: list[QueryResult] = []
        self._begin(Stage.SCORE_QUERIES, self.card.query_count)
        async for ids, block in self._embedded(self.dataset.queries(), InputType.QUERY):
            ranked = await asyncio.to_thread(search, index, block.vectors, self.documents, max(self.spec.cutoffs))
            judged = await asyncio.to_thread(self.dataset.judgements, ids)
            results += map(self._scored, ids, ranked, judged)
            await self._advance(len(ids))
        return results

    def result(self) -> Result:
        """Sum up, but for the duration."""
        return Result(
            metrics=measure(self.ranks, self.sources, self.spec.cutoffs),
            query_count=self.card.query_count,
            document_count=self.card.document_count,
            usage=self.usage,
            fingerprint=self.fingerprint,
            dimensions=self.dimensions,
            dataset_digest=self.card.digest,
            duration_seconds=0.0,
        )

    def _scored(self, query: str, retrieved: Sequence[tuple[str, float]], judgements: Judgements) -> QueryResult:
        ranked = [document for document, _ in retrieved]
        relevant = [document for document, grade in judgements.items() if grade > 0]
        result = QueryResult(query, first_relevant(ranked, relevant), retrieved, judgements)
        self.ranks.append(result.rank)
        self.sources.append(result.relevant)
        return result

    async def _embedded(
        self, texts: Iterator[tuple[str, str]], input_type: InputType
    ) -> AsyncIterator[tuple[Sequence[str], EmbeddedTexts]]:
        """Ids and vectors of blocks in order; the next blocks are read and embedded while one is used."""

        async def embed(block: Sequence[tuple[str, str]]) -> tuple[Sequence[str], EmbeddedTexts]:
            embedded = await self.embedder.embed(self.spec, [text for _, text in block], input_type)
            return [key for key, _ in block], embedded

        async with aclosing(in_order(embed, _blocks(texts), BLOCKS_AHEAD)) as blocks:
            async for ids, block in blocks:
                self._account(block)
                yield ids, block

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


async def _blocks(texts: Iterator[tuple[str, str]]) -> AsyncIterator[Sequence[tuple[str, str]]]:
    """Read on a thread: the texts may come from a disk."""
    while block := await asyncio.to_thread(lambda: list(islice(texts, BLOCK))):
        yield block


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
