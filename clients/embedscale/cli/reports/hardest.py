"""The queries that all models answer worst, and what they retrieved instead."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb

SHOWN = 5
_RELEVANT_SHOWN = 2
_CHARACTERS = 400


async def hardest(client: AsyncEvaluationClient, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Queries with the lowest reciprocal rank summed over all evaluations, by name, of one data set; the worst first.

    Queries that nothing answers are left out: no model could do better. Memory does not grow with the data set.
    """
    worst: list[tuple[float, Sequence[pb.QueryResult]]] = []
    async for rows in _together([client.query_results(name) for name in labels]):
        found = sum(1 / row.rank for row in rows if row.rank)
        if rows[0].relevant_ids and found < len(rows):
            worst = sorted([*worst, (found, rows)], key=lambda one: one[0])[:SHOWN]
    return [_as_dict(rows, list(labels.values())) for _, rows in worst]


async def add_texts(client: AsyncEvaluationClient, uri: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write the beginnings of the texts beside their ids."""
    documents = [document for row in rows for document in (*row["relevant"], *row["instead"]) if document["id"]]
    texts = await client.texts(
        uri,
        queries=[row["id"] for row in rows],
        documents=sorted({document["id"] for document in documents}),
        max_characters=_CHARACTERS,
    )
    for row in rows:
        row["text"] = _with_end(texts.queries.get(row["id"], ""))
    for document in documents:
        document["text"] = _with_end(texts.documents.get(document["id"], ""))


async def _together(
    streams: Sequence[AsyncIterator[pb.QueryResult]],
) -> AsyncIterator[Sequence[pb.QueryResult]]:
    """Results of the same query in all evaluations, which have the data set's order in common."""
    while True:
        rows = [row for stream in streams if (row := await anext(stream, None)) is not None]
        if len(rows) < len(streams):
            return
        yield rows


def _as_dict(rows: Sequence[pb.QueryResult], labels: Sequence[str]) -> dict[str, Any]:
    first = rows[0]
    return {
        "id": first.query_id,
        "text": "",
        "relevant": [{"id": one, "text": ""} for one in first.relevant_ids[:_RELEVANT_SHOWN]],
        "relevant_count": len(first.relevant_ids),
        "instead": [_instead(row, label) for row, label in zip(rows, labels, strict=True)],
    }


def _instead(row: pb.QueryResult, label: str) -> dict[str, Any]:
    """Best retrieved document that does not answer the query, if any came before one that does."""
    wrong = [one for one in row.retrieved if one.document_id not in row.relevant_ids] if row.rank != 1 else []
    best = wrong[0] if wrong else None
    return {
        "label": label,
        "rank": row.rank,
        "id": best.document_id if best else "",
        "score": best.score if best else None,
        "text": "",
    }


def _with_end(text: str) -> str:
    """Show where a text may go on."""
    return f"{text}…" if len(text) >= _CHARACTERS else text
