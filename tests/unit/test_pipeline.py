"""The whole pipeline in process: vectors that are known beforehand go in through the port that evaluations use."""

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from embedscale.core.dataset import DatasetCard, MemoryDataset
from embedscale.core.embedding import EmbeddedTexts, Encoding, InputType
from embedscale.core.errors import InvalidField, TextTooLong, UpstreamChanged
from embedscale.core.evaluation import EvaluationSpec, Progress, QueryResult, Result, Stage
from embedscale.core.vector_index import IndexKind, IndexSpec, Similarity
from embedscale.evaluator.blocks import LARGEST, SMALLEST, Blocks
from embedscale.evaluator.index import build_index
from embedscale.evaluator.pipeline import Pipeline

DIMENSIONS = 32
DOCUMENTS, QUERIES = 600, 150


@cache
def vector(text: str) -> np.ndarray:
    """Queries `q7-...` lie near documents `d7`."""
    topic = text.split("-")[0][1:]
    parts = [np.random.default_rng(int(hashlib.sha256(part.encode()).hexdigest()[:8], 16)) for part in (topic, text)]
    numbers = parts[0].standard_normal(DIMENSIONS) + 0.9 * parts[1].standard_normal(DIMENSIONS)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


class KnownVectors:
    """Answers with `vector` of each text, and remembers how many texts came at once."""

    def __init__(self, too_long: str = "", changing: bool = False) -> None:
        self.blocks: list[int] = []
        self.too_long = too_long
        self.changing = changing

    async def embed(self, spec: EvaluationSpec, texts: Sequence[str], input_type: InputType) -> EmbeddedTexts:
        await asyncio.sleep(0)
        self.blocks.append(len(texts))
        if self.too_long in texts:
            field = f"inputs[{texts.index(self.too_long)}].text"
            raise TextTooLong(f"{field} has 700 tokens and the model takes 512", field=field)
        space = str(len(self.blocks)) if self.changing else "space"
        return EmbeddedTexts(np.stack([vector(text) for text in texts]), space, len(texts), 0.0, 0, 0)


class OneDataset:
    def __init__(self, count: int = QUERIES) -> None:
        documents = {f"d{i}": f"d{i}" for i in range(DOCUMENTS)}
        queries = {f"q{i}": f"q{i % 100}-{i}" for i in range(count)}
        grades = {f"q{i}": {f"d{i % 100}": 2, f"d{i % 100 + 1}": 1, "d599": -1} for i in range(count)}
        self.dataset = MemoryDataset("memory:", queries, documents, grades)

    async def load(self, uri: str) -> MemoryDataset:
        return self.dataset

    def cards(self) -> Sequence[DatasetCard]:
        return ()


async def evaluated(
    spec: EvaluationSpec, embedder: KnownVectors | None = None
) -> tuple[Result, list[QueryResult], list[Progress]]:
    heard: list[Progress] = []
    pipeline = Pipeline(OneDataset(), embedder or KnownVectors(), build_index)
    result, rows = await pipeline.run(spec, heard.append)
    return result, rows, heard


def mrr(result_metrics: Sequence[object], cutoff: int = 5) -> float:
    return next(m.value for m in result_metrics if (m.name, m.cutoff) == ("mrr", cutoff))


async def test_scores_are_those_of_plain_numpy() -> None:
    result, rows, heard = await evaluated(EvaluationSpec("m", "memory:", (1, 5)))
    corpus = np.stack([vector(f"d{i}") for i in range(DOCUMENTS)])
    asked = np.stack([vector(f"q{i % 100}-{i}") for i in range(QUERIES)])
    best = np.argsort(-(asked @ corpus.T), axis=1)[:, :5]
    relevant = [{i % 100, i % 100 + 1} for i in range(QUERIES)]
    expected = [
        next((1 / rank for rank, row in enumerate(found, 1) if row in wanted), 0.0)
        for found, wanted in zip(best.tolist(), relevant, strict=True)
    ]
    assert mrr(result.metrics) == pytest.approx(np.mean(expected))
    assert 0.3 < mrr(result.metrics) < 1
    assert [row.query_id for row in rows] == [f"q{i}" for i in range(QUERIES)]
    assert [1 / row.rank if row.rank else 0.0 for row in rows] == expected
    assert result.usage.inputs == DOCUMENTS + QUERIES
    assert result.variants == ()
    assert [step.done for step in heard if step.stage is Stage.EMBED_CORPUS][-1] == DOCUMENTS
    running = [step.running for step in heard if step.running]
    assert mrr(running[-1]) == mrr(result.metrics)
    for step in running:
        assert all(0 <= m.lower <= m.value <= m.upper <= 1 for m in step)


async def test_a_sweep_has_every_combination_and_splits_the_loss() -> None:
    indexes = (IndexSpec(IndexKind.IVF_FLAT, nlist=15, nprobe=1), IndexSpec(IndexKind.BINARY))
    spec = EvaluationSpec(
        "m", "memory:", (5,), indexes=indexes, sweep_dimensions=(16,), sweep_encodings=(Encoding.INT8,)
    )
    result, _, heard = await evaluated(spec)
    plain, *_ = await evaluated(EvaluationSpec("m", "memory:", (5,)))
    assert result.metrics == plain.metrics
    found = [(v.dimensions, v.encoding, v.index.kind) for v in result.variants]
    kinds = (IndexKind.FLAT, IndexKind.IVF_FLAT, IndexKind.BINARY)
    assert found == [(d, e, k) for d in (32, 16) for e in (Encoding.FLOAT32, Encoding.INT8) for k in kinds]
    steps = [step.done for step in heard if step.stage is Stage.SWEEP_INDEXES]
    assert steps == list(range(len(found) + 1))
    first, by_key = result.variants[0], dict(zip(found, result.variants, strict=True))
    assert first.metrics == result.metrics
    for (dimensions, encoding, _), variant in by_key.items():
        exact = by_key[dimensions, encoding, IndexKind.FLAT]
        for m, loss, full, short in zip(variant.metrics, variant.losses, first.metrics, exact.metrics, strict=True):
            assert (loss.name, loss.cutoff) == (m.name, m.cutoff)
            assert loss.compression == pytest.approx(full.value - short.value)
            assert loss.index == pytest.approx(short.value - m.value)
        assert 0 < variant.search_p50_seconds <= variant.search_p95_seconds
    assert by_key[32, Encoding.FLOAT32, IndexKind.FLAT].bytes_per_vector == 128
    assert by_key[16, Encoding.INT8, IndexKind.FLAT].bytes_per_vector == 16
    assert by_key[32, Encoding.FLOAT32, IndexKind.IVF_FLAT].index.nprobe == 1
    assert by_key[32, Encoding.FLOAT32, IndexKind.IVF_FLAT].losses[0].index > 0
    assert by_key[16, Encoding.FLOAT32, IndexKind.FLAT].losses[0].compression > 0


async def test_cosine_of_vectors_of_length_1_is_their_inner_product() -> None:
    flat = IndexSpec(similarity=Similarity.COSINE)
    result, *_ = await evaluated(EvaluationSpec("m", "memory:", (5,), indexes=(flat,)))
    inner, cosine = result.variants
    assert cosine.index.similarity is Similarity.COSINE
    assert mrr(cosine.metrics) == mrr(inner.metrics)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"indexes": [IndexSpec(IndexKind.IVF_FLAT, nlist=601)]}, "spec.indexes[0].nlist"),
        ({"sweep_dimensions": [16, 33]}, "spec.sweep_dimensions[1]"),
        ({"indexes": [IndexSpec(IndexKind.IVF_PQ, pq_m=32)], "sweep_dimensions": [16]}, "spec.indexes[0].pq_m"),
    ],
)
async def test_what_does_not_fit_is_refused_before_the_corpus_is_embedded(
    options: dict[str, object], field: str
) -> None:
    embedder = KnownVectors()
    with pytest.raises(InvalidField) as caught:
        await evaluated(EvaluationSpec("m", "memory:", (5,), **options), embedder)
    assert caught.value.field == field
    assert sum(embedder.blocks) < DOCUMENTS


async def test_a_text_that_is_too_long_is_named_by_its_id() -> None:
    for text, name in (("d77", "document 'd77'"), ("q20-120", "query 'q120'")):
        with pytest.raises(TextTooLong) as caught:
            await evaluated(EvaluationSpec("m", "memory:"), KnownVectors(too_long=text))
        assert caught.value.message == f"{name} has 700 tokens and the model takes 512"


async def test_a_model_that_changes_on_the_way_fails() -> None:
    with pytest.raises(UpstreamChanged):
        await evaluated(EvaluationSpec("m", "memory:"), KnownVectors(changing=True))


async def test_blocks_of_a_fast_model_grow_and_nothing_is_lost() -> None:
    embedder = KnownVectors()
    await evaluated(EvaluationSpec("m", "memory:"), embedder)
    assert sum(embedder.blocks) == DOCUMENTS + QUERIES
    assert embedder.blocks[0] == SMALLEST
    assert max(embedder.blocks) >= 4 * SMALLEST


async def test_blocks_follow_how_long_they_take() -> None:
    blocks = Blocks()
    sizes = []
    async for block in blocks.of(iter([("id", "text")] * 20_000)):
        sizes.append(len(block))
        blocks.took(len(block), 0.01 if sum(sizes) < 8000 else 60.0)
    assert sizes[0] == SMALLEST
    assert max(sizes) == LARGEST
    assert sizes[-2] == SMALLEST
    assert sum(sizes) == 20_000


async def test_cancelling_stops_the_building_of_an_index() -> None:
    building, stopped = threading.Event(), threading.Event()

    def slow(spec: IndexSpec, rows: np.ndarray, stop: threading.Event) -> object:
        if spec.kind is IndexKind.HNSW:
            building.set()
            assert stop.wait(60)
            stopped.set()
        return build_index(spec, rows, stop)

    pipeline = Pipeline(OneDataset(), KnownVectors(), slow)
    spec = EvaluationSpec("m", "memory:", indexes=[IndexSpec(IndexKind.HNSW)])
    task = asyncio.create_task(pipeline.run(spec, lambda progress: None))
    await asyncio.to_thread(building.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stopped.wait, 60)


async def test_cancelling_stops_the_searching_of_an_index() -> None:
    searched: list[int] = []
    searching, released = threading.Event(), threading.Event()

    class Slow:
        exhaustive = False
        bytes_per_vector = 1.0

        def search(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
            searched.append(len(queries))
            searching.set()
            assert released.wait(60)
            return np.zeros((len(queries), depth), np.float32), np.full((len(queries), depth), -1)

    def slow(spec: IndexSpec, rows: np.ndarray, stop: threading.Event) -> object:
        return Slow() if spec.kind is IndexKind.HNSW else build_index(spec, rows, stop)

    pipeline = Pipeline(OneDataset(2000), KnownVectors(), slow)
    spec = EvaluationSpec("m", "memory:", indexes=[IndexSpec(IndexKind.HNSW)])
    task = asyncio.create_task(pipeline.run(spec, lambda progress: None))
    await asyncio.to_thread(searching.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    await asyncio.sleep(0.1)  # in which the other queries would be searched
    assert len(searched) == 1
