"""Data sets that tests write, and how they read them back."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from embedscale.core.dataset import Dataset, Imported
from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.bootstrap import build_sources
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.evaluator.sources import DatasetSources


def sources(folder: Path, **changed: Any) -> DatasetSources:
    """Sources that may read `folder` and this machine's websites, and keep what they import below it."""
    settings = {
        "embedding_addresses": ["127.0.0.1:1"],
        "dataset_roots": [folder],
        "dataset_hosts": ["127.0.0.1"],
        "data_folder": folder / ".kept",
    }
    built = EvaluatorSettings(**(settings | changed))
    return build_sources(built, built.data_folder)


def take_in(folder: Path, uri: Path | str, *, lenient: bool = False) -> Imported:
    return asyncio.run(sources(folder).take_in(str(uri), lenient=lenient))


def read(folder: Path, uri: Path | str) -> Dataset:
    return asyncio.run(sources(folder).load(str(uri)))


def refusal(folder: Path, uri: Path | str) -> str:
    """What is said of a set that is refused, without its URI."""
    with pytest.raises(DatasetInvalid) as caught:
        read(folder, uri)
    assert caught.value.field == "dataset"
    assert caught.value.message.startswith(f"{uri}: ")
    return caught.value.message.removeprefix(f"{uri}: ")


def lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def qrels(path: Path, rows: Iterable[tuple[str, str, int]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in rows)
    path.write_text(f"query-id\tcorpus-id\tscore\n{body}", "utf-8")
    return path


def content(dataset: Dataset) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Queries, documents and judgements."""
    queries = dict(dataset.queries())
    judged = dataset.judgements(list(queries))
    return queries, dict(dataset.documents()), {q: dict(j) for q, j in zip(queries, judged, strict=True) if j}
