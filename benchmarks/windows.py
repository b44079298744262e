"""Two ways with long texts, cut or in windows: MRR@5 of a model with mean pooling under each, by exact search.

    python -m benchmarks.windows [MODEL] [--texts FOLDER] [--quick] [--json FILE]

The windows of a text are computed once: the first of them is what END keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import AI_ACT, Goal, Report, arguments, data_sets, table, texts_fact
from embedscale.core.embedding import Embedding, Matrix, Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.length_batches import length_batches
from embedscale.embedder.weights import locate
from embedscale.embedding.catalog import LocalModel, Prompts, load_catalog
from embedscale.evaluator.metrics import judged, reciprocal_rank
from embedscale.evaluator.retrieval import order

TOKEN_BUDGET = 1024


def encoder_of(model: LocalModel) -> Encoder:
    """Encoder of a model of the catalog."""
    return Encoder(locate(model.source), model, device="cpu", token_budget=TOKEN_BUDGET)


def both_ways(encoder: Encoder, texts: Sequence[str]) -> tuple[Matrix, Matrix]:
    """Vectors of the texts cut, and in windows, each float32 (n, dimensions)."""
    whole = encoder.split(texts, Truncation.WINDOWS)
    firsts = np.cumsum([0, *whole.windows_per_text[:-1]])
    cut = replace(whole, windows=[whole.windows[row] for row in firsts], windows_per_text=[1] * len(texts))
    pooled = np.zeros((len(whole.windows), encoder.dimensions), np.float32)
    for rows in length_batches([len(ids) for ids in whole.windows], TOKEN_BUDGET):
        pooled[rows] = encoder.forward([whole.windows[row] for row in rows])
    return _matrix(encoder.join(cut, pooled[firsts])), _matrix(encoder.join(whole, pooled))


def _matrix(embeddings: Sequence[Embedding]) -> Matrix:
    return np.stack([embedding.vector for embedding in embeddings])


def mrr_at_5(content: Mapping[str, Any], queries: Matrix, corpus: Matrix) -> float:
    """MRR@5 of a set in LlamaIndex's layout, whose queries and corpus have these vectors."""
    ids = list(content["corpus"])
    ranked = [[ids[place] for place in order(list(row), ids)[:5]] for row in queries @ corpus.T]
    judgements = [dict.fromkeys(content["relevant_docs"][query], 1) for query in content["queries"]]
    return float(reciprocal_rank(judged(ranked, judgements, 5), 5).mean())


def scores(encoder: Encoder, prompts: Prompts, content: Mapping[str, Any]) -> tuple[float, float]:
    """MRR@5 of a set with its corpus cut, and in windows."""
    asked = encoder.encode([prompts.query + text for text in content["queries"].values()], Truncation.END)[0]
    cut, windows = both_ways(encoder, [prompts.document + text for text in content["corpus"].values()])
    queries = _matrix(asked)
    return mrr_at_5(content, queries, cut), mrr_at_5(content, queries, windows)


def main() -> None:
    """Score every set of the folder, print."""
    parser = arguments(__doc__)
    parser.add_argument("model", nargs="?", default="multilingual-e5-small-local")
    parser.add_argument("--texts", type=Path, default=AI_ACT)
    options = parser.parse_args()
    model = load_catalog().models[options.model]
    assert isinstance(model, LocalModel)
    encoder = encoder_of(model)
    sets = data_sets(options.texts, quick=options.quick)
    found = {name: scores(encoder, encoder.profile.prompts, content) for name, content in sets.items()}
    cut_at = f"END, cut at {encoder.profile.max_tokens}"
    rows = [(name, f"{cut:.4f}", f"{windows:.4f}", f"{windows - cut:+.4f}") for name, (cut, windows) in found.items()]
    measured = table((options.model, cut_at, "WINDOWS", "difference"), rows)
    goals = [
        Goal(f"{name}, MRR@5, windows against cut", f"{windows:.4f}", f"{cut:.4f}", windows / cut, 0.99)
        for name, (cut, windows) in found.items()
    ]
    figures = {"MRR@5": {name: {"WINDOWS": [windows], cut_at: [cut]} for name, (cut, windows) in found.items()}}
    Report("windows", [measured], goals, figures, texts_fact(options.texts)).finish(options.json)


if __name__ == "__main__":
    main()
