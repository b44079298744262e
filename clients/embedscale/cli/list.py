"""`evalctl list`: evaluations, the newest first."""

from itertools import islice

import click
from rich.markup import escape
from rich.table import Table

from embedscale.cli import completing, options, printing, results
from embedscale.cli.errors import asynchronous
from embedscale.cli.live import score
from embedscale.cli.references import SHORT, identifier, state
from embedscale.v1 import evaluation_service_pb2 as pb

_STATES = [name.removeprefix("EVALUATION_STATE_").lower() for name in islice(pb.EvaluationState.keys(), 1, None)]


@click.command("list")
@click.option("--model", default="", shell_complete=completing.models, help="Only those of this model.")
@click.option(
    "--dataset",
    default="",
    metavar="PATH-OR-URI",
    shell_complete=completing.datasets,
    help="Only those of this data set.",
)
@click.option("--state", "wanted", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many at most.")
@options.evaluation_address()
@options.output()
@asynchronous
async def list_evaluations(
    model: str, dataset: str, wanted: str | None, limit: int, address: str | None, output: str
) -> None:
    """List evaluations, the newest first.

    Example: evalctl list --state running
    """
    shown: list[pb.Evaluation] = []
    located = options.located(dataset) if dataset else ""
    async with options.evaluation_client(address) as client:
        async for evaluation in client.list(model=model, dataset=located, state=wanted or ""):
            shown.append(evaluation)
            if len(shown) == limit:
                break
    printing.show(output, {"evaluations": [results.as_dict(evaluation) for evaluation in shown]}, _table(shown))


def _table(evaluations: list[pb.Evaluation]) -> Table:
    table = Table("ID", "CREATED", "STATE", "MODEL", "DATA SET", "SCORE", box=None)
    for one in evaluations:
        created = one.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
        spec = (escape(one.spec.model), escape(one.spec.dataset))
        table.add_row(identifier(one)[:SHORT], created, state(one), *spec, escape(score(one.result.metrics)))
    return table
