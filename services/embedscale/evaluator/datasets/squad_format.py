"""Reads SQuAD's JSON layout: a paragraph is a document, a question a query that its paragraph answers. Streamed."""

from typing import Any

from embedscale.core.dataset import FaultKind
from embedscale.evaluator.datasets.intake import Intake, content_id
from embedscale.evaluator.datasets.json_stream import JsonStream


def read(stream: JsonStream, name: str, intake: Intake) -> None:
    """Read the document `name`, an article at a time. Raises BadJson.

    A document's id is made from its text. A question that is marked as impossible is kept, without an answer.
    """
    intake.content_ids = frozenset({"documents"})
    for key in stream.members():
        if key != "data" or stream.peek() != "[":
            stream.value()
            continue
        for number in stream.items():
            _article(stream.value(), f"{name}: data[{number}]", intake)
    stream.finish()


def _article(article: Any, place: str, intake: Intake) -> None:
    for paragraph_place, paragraph in _listed(article, "paragraphs", place, intake):
        text = paragraph.get("context")
        document = content_id(text) if isinstance(text, str) else ""
        intake.document(document or "unknown", text, f"{paragraph_place}.context")
        for question_place, question in _listed(paragraph, "qas", paragraph_place, intake):
            intake.query(question.get("id"), question.get("question"), question_place)
            grade = 0 if question.get("is_impossible") is True else 1
            intake.judgement(question.get("id"), document, grade, question_place)


def _listed(owner: Any, key: str, place: str, intake: Intake) -> list[tuple[str, dict[str, Any]]]:
    """Objects in the list `owner[key]`, with their places; what is none is a fault."""
    items = owner.get(key) if isinstance(owner, dict) else None
    if not isinstance(items, list):
        intake.fault(FaultKind.WRONG_TYPE, place, f"{key} is missing or not a list")
        return []
    placed = [(f"{place}.{key}[{number}]", item) for number, item in enumerate(items)]
    for item_place, item in placed:
        if not isinstance(item, dict):
            intake.fault(FaultKind.WRONG_TYPE, item_place, "is not an object")
    return [(item_place, item) for item_place, item in placed if isinstance(item, dict)]
