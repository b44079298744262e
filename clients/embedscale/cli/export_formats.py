"""Formats of an exported evaluation. Each writes files whose names begin with a path, and yields lines to print."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from embedscale.cli import results
from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb

Format = Callable[[AsyncEvaluationClient, pb.Evaluation, Path], AsyncIterator[str]]

_ROWS = 1000


async def as_json(client: AsyncEvaluationClient, evaluation: pb.Evaluation, path: Path) -> AsyncIterator[str]:
    """One file with the evaluation, its events and its query results."""
    file = path.with_suffix(".json")
    content = {
        **results.as_dict(evaluation),
        "events": [results.event_as_dict(event) async for event in client.watch(evaluation.name)],
        "query_results": [results.query_as_dict(row) async for row in client.query_results(evaluation.name)],
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
    yield str(file)


async def as_parquet(client: AsyncEvaluationClient, evaluation: pb.Evaluation, path: Path) -> AsyncIterator[str]:
    """One file with a row a query; the evaluation is in its metadata, as JSON under "embedscale"."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise CommandFailed("Parquet needs pyarrow: pip install 'embedscale[parquet]'", EXIT_USER) from None
    documents = {"document_id": pyarrow.string(), "score": pyarrow.float32()}
    judgements = {"document_id": pyarrow.string(), "grade": pyarrow.int32()}
    columns = [
        ("query_id", pyarrow.string()),
        ("rank", pyarrow.uint32()),
        ("retrieved", pyarrow.list_(pyarrow.struct(list(documents.items())))),
        ("judgements", pyarrow.list_(pyarrow.struct(list(judgements.items())))),
    ]
    schema = pyarrow.schema(columns, {"embedscale": json.dumps(results.as_dict(evaluation))})
    file = path.with_suffix(".parquet")
    with ParquetWriter(file, schema) as writer:
        async for rows in _batches(client, evaluation):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    yield str(file)


async def as_trec(client: AsyncEvaluationClient, evaluation: pb.Evaluation, path: Path) -> AsyncIterator[str]:
    """A run and a qrels file. They are split at blanks, so that ids are percent-encoded where they have any."""
    encoded = 0
    with (
        path.with_suffix(".run").open("w", encoding="utf-8") as run,
        path.with_suffix(".qrels").open("w", encoding="utf-8") as qrels,
    ):
        async for row in client.query_results(evaluation.name):
            query = _word(row.query_id)
            encoded += query != row.query_id
            for rank, document in enumerate(row.retrieved, 1):
                word = _word(document.document_id)
                encoded += word != document.document_id
                run.write(f"{query} Q0 {word} {rank} {document.score:.9g} embedscale\n")
            for judgement in row.judgements:
                qrels.write(f"{query} 0 {_word(judgement.document_id)} {judgement.grade}\n")
    yield f"{path.with_suffix('.run')}"
    yield f"{path.with_suffix('.qrels')}"
    if encoded:
        yield f"{encoded} ids have blanks or percent signs, which are written as %20 and the like"


async def _batches(client: AsyncEvaluationClient, evaluation: pb.Evaluation) -> AsyncIterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    async for row in client.query_results(evaluation.name):
        rows.append(results.query_as_dict(row))
        if len(rows) == _ROWS:
            yield rows
            rows = []
    yield rows


def _word(identifier: str) -> str:
    """Encode an id that trec_eval would take for several; two different ids stay different."""
    if not identifier or "%" in identifier or len(identifier.split()) != 1 or identifier != identifier.strip():
        return "".join(quote(one) if one.isspace() or one == "%" else one for one in identifier) or "%"
    return identifier


FORMATS: dict[str, Format] = {"json": as_json, "parquet": as_parquet, "trec": as_trec}
