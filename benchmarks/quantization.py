"""What quantization costs: cosine to float32, and MRR@5 against it, of every kind that runs on a CPU.

    python -m benchmarks.quantization [MODEL ...] [--quick] [--json FILE]

Every question and chunk of the EU AI Act sets, cut at the model's maximum; exact search.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import AI_ACT, Figures, Goal, Report, arguments, data_sets, table, texts_fact
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

SERVED = "int8 by onnxruntime"

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


def rows_of(name: str, sets: Sequence[Set], kinds: Sequence[str]) -> list[list[str]]:
    """A row a kind of quantization."""
    model = load_catalog().models[name]
    assert isinstance(model, LocalModel)
    encoder = encoder_of(model)
    exact = [vectors(encoder, content) for _, content in sets]
    rows = []
    for kind in kinds:
        cosines, changes = losses(model.model_copy(update=dict(KINDS[kind])), sets, exact)
        rows.append([name, kind, f"{np.mean(cosines):.4f}", f"{min(cosines):.4f}", *(f"{one:+.4f}" for one in changes)])
        print(*rows[-1], flush=True)
    return rows


def goals(rows: Sequence[Sequence[str]]) -> list[Goal]:
    """What the served int8 may lose: a hundredth of the cosine, and 0.005 of MRR@5 in any language."""
    found = []
    for name, kind, _, worst, *changes in rows:
        if kind == SERVED:
            loss, fall = 1 - float(worst), max(0.0, *(-float(one) for one in changes))
            found.append(
                Goal(f"{name}, worst cosine's distance from 1, of 0.01", f"{loss:.4f}", "", loss / 0.01, 1, True)
            )
            found.append(Goal(f"{name}, MRR@5 lost at worst, of 0.005", f"{fall:.4f}", "", fall / 0.005, 1, True))
    return found


def figures(rows: Sequence[Sequence[str]], names: Sequence[str]) -> Figures:
    """The rows by quantity."""
    return {
        "1 - cosine to float32": {
            f"{name}, {kind}": {"mean": [1 - float(mean)], "worst": [1 - float(worst)]}
            for name, kind, mean, worst, *_ in rows
        },
        "change of MRR@5": {
            f"{row[0]}, {row[1]}": {one: [float(change)] for one, change in zip(names, row[4:], strict=True)}
            for row in rows
        },
    }


def main() -> None:
    """Measure every kind of every model, print."""
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--texts", type=Path, default=AI_ACT)
    options = parser.parse_args()
    sets = list(data_sets(options.texts, quick=options.quick).items())
    models, kinds = (options.models[:1], [SERVED]) if options.quick else (options.models, list(KINDS))
    rows = [row for name in models for row in rows_of(name, sets, kinds)]
    names = [name for name, _ in sets]
    headers = ("model", "quantization", "cosine, mean", "worst", *(f"MRR@5, {name}" for name in names))
    measured = table(headers, rows)
    Report("quantization", [measured], goals(rows), figures(rows, names), texts_fact(options.texts)).finish(
        options.json
    )


if __name__ == "__main__":
    main()
