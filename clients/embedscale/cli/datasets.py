"""`evalctl datasets`: which sets there are, taking one in, and what makes its scores say less than they seem to."""

from collections.abc import Mapping, Sequence

import click
from rich.markup import escape
from rich.table import Table

from embedscale.cli import audits, completing, options, printing
from embedscale.cli.build import build
from embedscale.cli.errors import asynchronous
from embedscale.cli.generate import generate
from embedscale.cli.sample import sample
from embedscale.v1 import evaluation_service_pb2 as pb

_FAULTS_SHOWN = 10


@click.group()
def datasets() -> None:
    """List data sets, make them of documents, take them in and audit them.

    Example: evalctl datasets list
    """


datasets.add_command(build)
datasets.add_command(generate)
datasets.add_command(sample)


@datasets.command("list")
@options.evaluation_address()
@options.output()
@asynchronous
async def list_(address: str | None, output: str) -> None:
    """List the data sets that ship and those that were imported.

    Example: evalctl datasets list
    """
    async with options.evaluation_client(address) as client:
        found = await client.datasets()
    printing.show(output, {"datasets": [audits.dataset_as_dict(dataset) for dataset in found]}, _table(found))


@datasets.command()
@click.argument("dataset", metavar="PATH-OR-URI", shell_complete=completing.datasets)
@options.evaluation_address()
@options.output()
@asynchronous
async def show(dataset: str, address: str | None, output: str) -> None:
    """Show the card of a data set: counts, languages, lengths, digest.

    Example: evalctl datasets show builtin:velmar/en
    """
    async with options.evaluation_client(address) as client:
        found = await client.dataset(options.located(dataset))
    printing.show(output, audits.dataset_as_dict(found), _card(found))


@datasets.command("import")
@click.argument("dataset", metavar="PATH-OR-URI", shell_complete=completing.datasets)
@click.option("--lenient", is_flag=True, help="Leave out what is wrong, and count it, instead of refusing the set.")
@options.evaluation_address()
@options.output()
@asynchronous
async def import_(dataset: str, lenient: bool, address: str | None, output: str) -> None:
    """Take a data set in, so that it is found by its digest, and audit it.

    Example: evalctl datasets import questions.jsonl --lenient
    """
    async with options.evaluation_client(address) as client:
        imported = await client.import_dataset(options.located(dataset), lenient=lenient)
    tables = (_card(imported.dataset), audits.as_table({dataset: imported}))
    printing.show(output, audits.as_dict(imported), *tables)
    if output == "table":
        _print_faults(imported)


@datasets.command()
@click.argument("datasets", nargs=-1, required=True, metavar="PATH-OR-URI...", shell_complete=completing.datasets)
@click.option("--lenient", is_flag=True, help="Leave out what is wrong, and count it, instead of refusing the set.")
@click.option(
    "--model",
    default="",
    shell_complete=completing.models,
    help="Catalog name of a model: count its tokens, and what cutting texts costs.",
)
@options.evaluation_address()
@options.output()
@asynchronous
async def audit(datasets: Sequence[str], lenient: bool, model: str, address: str | None, output: str) -> None:
    """Say what makes the scores of data sets say less than they seem to; each is taken in.

    Where MODEL cuts documents and can take them in windows instead, both ways are evaluated.

    Example: evalctl datasets audit builtin:velmar/en builtin:velmar/hu --model all-MiniLM-L6-v2
    """
    async with options.evaluation_client(address) as client:
        found = {
            dataset: await client.import_dataset(options.located(dataset), lenient=lenient, model=model)
            for dataset in datasets
        }
        costs = await audits.truncation_costs(client, found)
    pools = {name: imported.dataset.document_count for name, imported in found.items()}
    value = {
        "audits": {name: audits.as_dict(imported) for name, imported in found.items()},
        "same_pool_size": len(set(pools.values())) == 1,
        "truncation_costs": {name: cost.as_dict() for name, cost in costs.items()},
    }
    printing.show(output, value, audits.as_table(found))
    if output == "table":
        _print_notes(found, pools, costs)


def _print_faults(imported: pb.ImportDatasetResponse) -> None:
    for kind, count in sorted(imported.dataset.skipped.items()):
        click.echo(f"left out: {count} {kind}")
    for fault in imported.faults[:_FAULTS_SHOWN]:
        click.echo(f"  {fault.place}: {fault.message}")


def _print_notes(
    found: Mapping[str, pb.ImportDatasetResponse], pools: Mapping[str, int], costs: Mapping[str, audits.Cost]
) -> None:
    if len(set(pools.values())) > 1:
        sizes = ", ".join(map(str, sorted(set(pools.values()))))
        click.echo(f"pools of {sizes} documents: the scores of these sets cannot be compared with each other")
    for name, imported in found.items():
        if imported.audit.HasField("tokens"):
            click.echo(f"{name}: {audits.tokens_in_words(imported.audit.tokens)}")
        if name in costs:
            click.echo(f"{name}: {costs[name].in_words()}")


def _table(found: Sequence[pb.Dataset]) -> Table:
    table = Table("URI", "TITLE OR SOURCE", "QUERIES", "DOCUMENTS", "LANGUAGES", "LICENCE", "SKIPPED", box=None)
    for dataset in found:
        counts = (str(dataset.query_count), str(dataset.document_count))
        skipped = str(sum(dataset.skipped.values()) or "")
        named = escape(dataset.title or dataset.source)
        table.add_row(escape(dataset.uri), named, *counts, " ".join(dataset.languages), dataset.license, skipped)
    return table


def _card(dataset: pb.Dataset) -> Table:
    table = Table("CARD", "", box=None)
    facts = {
        "URI": dataset.uri,
        "title": dataset.title,
        "source": dataset.source if dataset.source != dataset.uri else "",
        "digest": dataset.digest,
        "queries": f"{dataset.query_count}, of {audits.lengths_in_words(dataset.query_characters)} characters",
        "documents": f"{dataset.document_count}, of {audits.lengths_in_words(dataset.document_characters)} characters",
        "unanswered": f"{dataset.unanswered_count} queries without a relevant document",
        "languages": " ".join(dataset.languages),
        "licence": dataset.license,
    }
    for name, fact in facts.items():
        if fact:
            table.add_row(name, escape(fact))
    return table
