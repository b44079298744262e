"""The same MRR@5 as trec_eval and as LlamaIndex's own retriever loop, on the article's question/answer sets."""

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from embedscale.client import AsyncEvaluationClient
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import MINILM, served

LANGUAGES = ["EN", "FR", "CS", "HU"]
METRICS = {"mrr": "recip_rank", "hit_rate": "success.5", "recall": "recall.5", "precision": "P.5", "ndcg": "ndcg_cut.5",
           "map": "map_cut.5"}  # fmt: skip


@pytest.fixture(scope="module", params=LANGUAGES)
async def evaluated(
    request, session_stack, embedder: str, ai_act: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pb.Evaluation, list]:
    settings = EvaluatorSettings(
        embedding_addresses=[embedder],
        dataset_roots=[ai_act],
        drain_seconds=0,
        data_folder=tmp_path_factory.mktemp(request.param),
    )
    address = await served(session_stack, bootstrap.build(settings), settings)
    path = ai_act / f"{request.param}_dataset.json"
    async with AsyncEvaluationClient(address) as client:
        created = await client.create(MINILM, str(path), cutoffs=[5])
        async for _ in client.watch(created.name):
            pass
        rows = [row async for row in client.query_results(created.name)]
        return path, await client.get(created.name), rows


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_metrics_are_those_of_trec_eval_on_the_same_run(evaluated: tuple[Path, pb.Evaluation, list]) -> None:
    path, evaluation, rows = evaluated
    relevant = json.loads(path.read_text())["relevant_docs"]
    qrels = {query: dict.fromkeys(documents, 1) for query, documents in relevant.items()}
    run = {row.query_id: {one.document_id: one.score for one in row.retrieved} for row in rows}
    judged = pytrec_eval.RelevanceEvaluator(qrels, set(METRICS.values())).evaluate(run)
    assert len(judged) == len(relevant)
    for metric in evaluation.result.metrics:
        name = METRICS[metric.name].replace(".", "_")
        assert metric.value == pytest.approx(np.mean([one[name] for one in judged.values()]), abs=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_mrr_is_that_of_llama_index(
    evaluated: tuple[Path, pb.Evaluation, list],
    vectors_by_text: Callable[[Path], dict[str, np.ndarray]],
    tmp_path: Path,
) -> None:
    """Its own process: importing LlamaIndex warns and changes global state."""
    if importlib.util.find_spec("llama_index") is None:
        pytest.skip("llama-index-core is not installed")
    path, evaluation, _ = evaluated
    content = json.loads(path.read_text())
    vector_of = vectors_by_text(path)
    vectors = {part: np.stack([vector_of[text] for text in content[part].values()]) for part in ("corpus", "queries")}
    np.savez(tmp_path / "vectors.npz", **vectors)
    script = Path(__file__).parents[2] / "benchmarks" / "llama_index_loop.py"
    command = [sys.executable, str(script), str(path), "--vectors", str(tmp_path / "vectors.npz")]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    ours = next(metric.value for metric in evaluation.result.metrics if metric.name == "mrr")
    assert ours == pytest.approx(json.loads(ended.stdout)["mrr"], abs=1e-6)
