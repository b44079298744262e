"""Reads JSON lines of {"query", "positives", "negatives"?}: ids are made from the texts, equal texts are one thing."""

from typing import Any

from embedscale.core.dataset import FaultKind
from embedscale.evaluator.datasets.files import SourceFile
from embedscale.evaluator.datasets.intake import Intake, content_id
from embedscale.evaluator.datasets.rows import rows_of

_GRADES = {"positives": 1, "negatives": 0}


def read(file: SourceFile, intake: Intake) -> None:
    """Read the file. A negative is a document that was judged as not relevant."""
    intake.content_ids = frozenset({"documents", "queries"})
    for place, row in rows_of(file, intake):
        query = row.get("query")
        key = content_id(query) if isinstance(query, str) else "unknown"
        intake.query(key, query, f"{place} query")
        for field, grade in _GRADES.items():
            for number, text in enumerate(_texts(row, field, place, intake)):
                _judged(key, text, grade, f"{place} {field}[{number}]", intake)


def _texts(row: dict[str, Any], field: str, place: str, intake: Intake) -> list[Any]:
    texts = row.get(field, [] if field == "negatives" else None)
    if isinstance(texts, list):
        return texts
    intake.fault(FaultKind.WRONG_TYPE, place, f"{field} is missing or not a list")
    return []


def _judged(query: str, text: Any, grade: int, place: str, intake: Intake) -> None:
    document = content_id(text) if isinstance(text, str) else "unknown"
    intake.document(document, text, place)
    if isinstance(text, str):
        intake.judgement(query, document, grade, place)
