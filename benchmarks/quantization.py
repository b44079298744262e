"""What quantization costs: cosine to float32, and MRR@5 against it, of every kind that runs on a CPU.

    python -m benchmarks.quantization [MODEL ...] [--quick] [--json FILE]

Every question and chunk of the EU AI Act sets, cut at the model's maximum; exact search.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import AI_ACT, Report, arguments, table
from benchmarks.windows import encoder_of, mrr_at_5
from embedscale.core.embedding import Matrix, Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedding.catalog import LocalModel, load_catalog

MODELS = ("all-MiniLM-L6-v2", "multilingual-e5-small-local")
KINDS: Mapping[str, Mapping[str, str]] = {
    "int8 by onnxruntime": {"quantization": "int8", "runtime": "onnxruntime"},
    "int8 by bitsandbytes": {"quantization": "int8", "runtime": "torch"},
    "nf4 by bitsandbytes": {"quantization": "nf4", "runtime": "torch"},
}

Set = tuple[str, Mapping[str, Any]]
Vectors = tuple[Matrix, Matrix]
"""Those of a set's queries and of its corpus, each float32 (n, dimensions)."""


def vectors(encoder: Encoder, content: Mapping[str, Any]) -> Vectors:
    """Embed a set."""
    prompts = encoder.profile.prompts
    return (
        _embedded(encoder, prompts.query, content["queries"].values()),
        _embedded(encoder, prompts.document, content["corpus"].values()),
    )


def _embedded(encoder: Encoder, prompt: str, texts: Sequence[str]) -> Matrix:
    embeddings = encoder.encode([prompt + text for text in texts], Truncation.END)[0]
    return np.stack([embedding.vector for embedding in embeddings])


def losses(model: LocalModel, sets: Sequence[Set], exact: Sequence[Vectors]) -> tuple[list[float], list[float]]:
    """Cosine to the exact vectors, of every text, and what MRR@5 changed by in each set."""
    encoder = encoder_of(model)
    cosines, changes = [], []
    for (_, content), (queries, corpus) in zip(sets, exact, strict=True):
        found = vectors(encoder, content)
        cosines += [*(found[0] * queries).sum(axis=1), *(found[1] * corpus).sum(axis=1)]
        changes.append(mrr_at_5(content, *found) - mrr_at_5(content, queries, corpus))
    return cosines, changes


def rows_of(name: str, sets: Sequence[Set]) -> list[list[str]]:
    """A row a kind of quantization."""
    model = load_catalog().models[name]
    assert isinstance(model, LocalModel)
    encoder = encoder_of(model)
    exact = [vectors(encoder, content) for _, content in sets]
    rows = []
    for kind, changed in KINDS.items():
        cosines, changes = losses(model.model_copy(update=dict(changed)), sets, exact)
        rows.append([name, kind, f"{np.mean(cosines):.4f}", f"{min(cosines):.4f}", *(f"{one:+.4f}" for one in changes)])
        print(*rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure every kind of every model, print."""
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--texts", type=Path, default=AI_ACT)
    options = parser.parse_args()
    paths = sorted(options.texts.glob("*_dataset.json"))[: 1 if options.quick else None]
    sets = [(path.stem.removesuffix("_dataset"), json.loads(path.read_text("utf-8"))) for path in paths]
    rows = [row for name in options.models for row in rows_of(name, sets)]
    headers = ("model", "quantization", "cosine, mean", "worst", *(f"MRR@5, {name}" for name, _ in sets))
    Report("quantization", [table(headers, rows)], [], rows).finish(options.json)


if __name__ == "__main__":
    main()
