"""`evalctl show`: one evaluation in full."""

from collections.abc import Sequence

import click
from rich.markup import escape
from rich.table import Table

from embedscale.cli import completing, options, printing, references, results
from embedscale.cli.errors import asynchronous
from embedscale.v1 import evaluation_service_pb2 as pb


@click.command()
@click.argument("reference", metavar="ID", shell_complete=completing.evaluations)
@click.option("--queries", is_flag=True, help="Also what was retrieved for each query.")
@options.evaluation_address()
@options.output()
@asynchronous
async def show(reference: str, queries: bool, address: str | None, output: str) -> None:
    """Show the evaluation ID, which may be shortened.

    Example: evalctl show 3f2a --queries
    """
    async with options.evaluation_client(address) as client:
        evaluation = await references.found(client, reference)
        rows = [row async for row in client.query_results(evaluation.name)] if queries else []
    retrieved = {"query_results": [results.query_as_dict(row) for row in rows]} if queries else {}
    tables = [_facts(evaluation), _queries(rows)] if queries else [_facts(evaluation)]
    printing.show(output, {**results.as_dict(evaluation), **retrieved}, *tables)


def _facts(evaluation: pb.Evaluation) -> Table:
    scores = results.scores(evaluation)
    facts = {
        "name": evaluation.name,
        "state": references.state(evaluation),
        "why": evaluation.error.message,
        "model": evaluation.spec.model,
        "data set": evaluation.spec.dataset,
        "created": evaluation.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC"),
        "by": evaluation.caller,
        "fingerprint": evaluation.result.fingerprint,
        "dataset digest": evaluation.result.dataset_digest,
        **scores,
    }
    return printing.facts({name: fact for name, fact in facts.items() if fact})


def _queries(rows: Sequence[pb.QueryResult]) -> Table:
    table = Table("QUERY", "RANK", "RETRIEVED", "RELEVANT", box=None)
    for row in rows:
        retrieved = "  ".join(document.document_id for document in row.retrieved[:5])
        table.add_row(
            escape(row.query_id), str(row.rank or "none"), escape(retrieved), escape("  ".join(row.relevant_ids))
        )
    return table
