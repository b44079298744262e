"""Reads the JSON layout of LlamaIndex's `EmbeddingQAFinetuneDataset`: queries, corpus, relevant_docs. Streamed."""

from collections.abc import Iterator
from typing import Any

from embedscale.core.dataset import FaultKind
from embedscale.evaluator.datasets.intake import Intake
from embedscale.evaluator.datasets.json_stream import JsonStream

TABLES = ("queries", "corpus", "relevant_docs")


def read(stream: JsonStream, name: str, intake: Intake) -> None:
    """Read the document `name`. Raises BadJson."""
    intake.judgement_needed = True
    missing = set(TABLES)
    for table in stream.members():
        if table not in missing or stream.peek() != "{":
            stream.value()
            continue
        missing.remove(table)
        if not sum(1 for _ in _taken(stream, table, f"{name}: {table}", intake)):
            intake.fault(FaultKind.WRONG_TYPE, name, f"{table} is empty")
    stream.finish()
    for table in TABLES:
        if table in missing:
            intake.fault(FaultKind.WRONG_TYPE, name, f"{table} is missing or not an object")


def _taken(stream: JsonStream, table: str, place: str, intake: Intake) -> Iterator[None]:
    for key in stream.members():
        value = stream.value()
        if table == "relevant_docs":
            _judge(key, value, f"{place}[{key!r}]", intake)
        else:
            take = intake.query if table == "queries" else intake.document
            take(key, value, f"{place}[{key!r}]")
        yield


def _judge(query: str, documents: Any, place: str, intake: Intake) -> None:
    if not isinstance(documents, list) or not documents:
        intake.fault(FaultKind.MISSING_JUDGEMENT, place, "is not a list of ids, or empty")
        return
    seen: list[Any] = []
    for document in documents:  # one named twice counts once
        if document not in seen:
            seen.append(document)
            intake.judgement(query, document, 1, place)
