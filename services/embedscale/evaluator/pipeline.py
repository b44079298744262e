"""One evaluation from end to end: read, embed and index the corpus, embed, search and score the queries."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import numpy as np

from embedscale.core.dataset import Dataset, DatasetCard
from embedscale.core.embedding import EmbeddedTexts, InputType, Matrix
from embedscale.core.errors import TextTooLong, UpstreamChanged
from embedscale.core.evaluation import EvaluationSpec, Progress, QueryResult, Result, Stage, Usage, Variant
from embedscale.core.ordered import in_order
from embedscale.core.ports import BuildIndex, DatasetSource, TextEmbedder
from embedscale.core.vector_index import IndexSpec
from embedscale.evaluator.blocks import Block, Blocks
from embedscale.evaluator.metrics import judged, measure, values_of
from embedscale.evaluator.retrieval import Retrieval
from embedscale.evaluator.stages import timed
from embedscale.evaluator.sweep import Sweep, check_sweep
from embedscale.evaluator.uncertainty import Values, group_numbers, normal_intervals
from embedscale.evaluator.vector_rows import in_file, in_memory

BLOCKS_AHEAD = 4
FIRST_BLOCK = {InputType.DOCUMENT: 16, InputType.QUERY: 64}
"""Queries are short, and each block of them reads the whole index."""
_RUNNING_SCORES = 50
_STEPS = 500

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Pipeline:
    """What every evaluation needs."""

    datasets: DatasetSource
    embedder: TextEmbedder
    build_index: BuildIndex

    async def run(self, spec: EvaluationSpec, report: Report) -> tuple[Result, list[QueryResult]]:
        """Evaluate; `report` hears how far it is. Raises errors of the domain's tree."""
        started = time.monotonic()
        report(Progress(Stage.READ_DATASET))
        with timed(Stage.READ_DATASET):
            dataset = await self.datasets.load(spec.dataset)
            card = await asyncio.to_thread(lambda: dataset.card)
        run = _Run(spec, dataset, card, self.embedder, self.build_index, report)
        with timed(Stage.EMBED_CORPUS):
            await run.embed_corpus()
        with timed(Stage.SCORE_QUERIES):
            await run.score_queries()
        if spec.sweeps:
            with timed(Stage.SWEEP_INDEXES):
                await run.sweep()
        result = await asyncio.to_thread(run.result)
        return replace(result, duration_seconds=time.monotonic() - started), run.results


@dataclass
class _Run:
    spec: EvaluationSpec
    dataset: Dataset
    card: DatasetCard
    embedder: TextEmbedder
    build_index: BuildIndex
    report: Report
    usage: Usage = field(default_factory=Usage)
    fingerprint: str = ""
    dimensions: int = 0
    progress: Progress = field(default_factory=Progress)
    reported: int = 0
    measured: int = 0
    documents: list[str] = field(default_factory=list)
    rows: Matrix = field(default_factory=lambda: in_memory(0, 0))
    queries: Matrix = field(default_factory=lambda: in_memory(0, 0))
    results: list[QueryResult] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    variants: Sequence[Variant] = ()

    async def embed_corpus(self) -> None:
        """Embed all documents, in the data set's order."""
        self._begin(Stage.EMBED_CORPUS, self.card.document_count)
        async for ids, block in self._embedded(self.dataset.documents(), InputType.DOCUMENT):
            if not self.documents:
                check_sweep(self.spec, self.card.document_count, self.dimensions)
                self.rows = await self._room(self.card.document_count)
            self.rows[len(self.documents) : len(self.documents) + len(ids)] = block.vectors
            self.documents += ids
            await self._advance(len(ids))

    async def score_queries(self) -> None:
        """Embed, search and score all queries, in the data set's order."""
        index = self.build_index(IndexSpec(), self.rows, threading.Event())
        self._begin(Stage.SCORE_QUERIES, self.card.query_count)
        if self.spec.sweeps:
            self.queries = await self._room(self.card.query_count)
        async for ids, block in self._embedded(self.dataset.queries(), InputType.QUERY):
            if self.spec.sweeps:
                self.queries[len(self.results) : len(self.results) + len(ids)] = block.vectors
            rankings = await asyncio.to_thread(self.retrieval.rankings, index, ids, block.vectors)
            judgements = await asyncio.to_thread(self.dataset.judgements, ids)
            rankings_judged = judged([_ids(one) for one in rankings], judgements, self.retrieval.cutoff)
            self.values.append(values_of(rankings_judged, self.spec.cutoffs))
            ranks = _first(rankings_judged.retrieved)
            self.results += map(QueryResult, ids, ranks, rankings, judgements)
            await self._advance(len(ids))

    async def sweep(self) -> None:
        """Search the same vectors in the other ways that are asked for."""
        sweep = Sweep(
            self.spec, self.retrieval, self.build_index, self.rows, self.queries, self.results, np.hstack(self.values)
        )
        self._begin(Stage.SWEEP_INDEXES, sweep.total)
        variants = []
        async with aclosing(sweep.variants()) as measured:
            async for variant in measured:
                variants.append(variant)
                await self._advance(1)
        self.variants = variants

    @property
    def retrieval(self) -> Retrieval:
        """How documents are found in any index."""
        return Retrieval(self.documents, max(self.spec.cutoffs), self.spec.ignore_identical_ids)

    def result(self) -> Result:
        """Sum up, but for the duration."""
        groups = group_numbers([result.source for result in self.results])
        return Result(
            metrics=measure(np.hstack(self.values), groups, self.spec.cutoffs),
            query_count=self.card.query_count,
            document_count=self.card.document_count,
            usage=self.usage,
            fingerprint=self.fingerprint,
            dimensions=self.dimensions,
            dataset_digest=self.card.digest,
            duration_seconds=0.0,
            variants=self.variants,
        )

    async def _room(self, count: int) -> Matrix:
        return await asyncio.to_thread(in_file if self.spec.sweeps else in_memory, count, self.dimensions)

    async def _embedded(
        self, texts: Iterator[tuple[str, str]], input_type: InputType
    ) -> AsyncIterator[tuple[Sequence[str], EmbeddedTexts]]:
        """Ids and vectors of blocks in order; the next blocks are read and embedded while one is used."""
        blocks = Blocks(FIRST_BLOCK[input_type])

        async def embed(block: Block) -> tuple[Sequence[str], EmbeddedTexts]:
            ids, started = [key for key, _ in block], time.monotonic()
            try:
                embedded = await self.embedder.embed(self.spec, [text for _, text in block], input_type)
            except TextTooLong as error:
                raise error.of(input_type.value, ids) from None
            blocks.took(len(block), time.monotonic() - started)
            return ids, embedded

        async with aclosing(in_order(embed, blocks.of(texts), BLOCKS_AHEAD)) as answers:
            async for ids, block in answers:
                self._account(block)
                yield ids, block

    def _account(self, block: EmbeddedTexts) -> None:
        if self.fingerprint not in ("", block.fingerprint):
            raise UpstreamChanged(f"model {self.spec.model!r} changed its vector space during the evaluation")
        self.fingerprint, self.dimensions = block.fingerprint, block.vectors.shape[1]
        self.usage += Usage(block.tokens_used, len(block.vectors), block.cache_hits, block.truncated, block.cost)

    def _begin(self, stage: Stage, total: int) -> None:
        self.progress = Progress(stage, total=total, running=self.progress.running, usage=self.usage)
        self.reported = 0
        self.report(self.progress)

    async def _advance(self, count: int) -> None:
        """Report, though no more than `_STEPS` times a stage: each report is kept."""
        self.progress = replace(self.progress, done=self.progress.done + count, usage=self.usage)
        done, total = self.progress.done, self.progress.total
        if done < total and done - self.reported < total / _STEPS:
            return
        scored = len(self.results)
        if scored and (done == total or scored - self.measured >= self.card.query_count / _RUNNING_SCORES):
            await asyncio.to_thread(self._measure)
        self.reported = done
        self.report(self.progress)

    def _measure(self) -> None:
        """The running score, with intervals from the standard error: a bootstrap would cost more than the search."""
        self.measured = len(self.results)
        groups = group_numbers([result.source for result in self.results])
        running = measure(np.hstack(self.values), groups, self.spec.cutoffs, normal_intervals)
        self.progress = replace(self.progress, running=running)


def _ids(ranking: Sequence[tuple[str, float]]) -> list[str]:
    return [document for document, _ in ranking]


def _first(grades: "np.typing.NDArray[np.int64]") -> list[int]:
    """Rank of the first relevant document of each row, counted from 1; 0 where there is none."""
    hits = grades > 0
    ranks: list[int] = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).tolist()
    return ranks
