"""`evalctl export`: an evaluation as files for other tools."""

from pathlib import Path

import click

from embedscale.cli import completing, options, references
from embedscale.cli.errors import CommandFailed, asynchronous
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.export_formats import FORMATS
from embedscale.v1 import evaluation_service_pb2 as pb


@click.command()
@click.argument("reference", metavar="ID", shell_complete=completing.evaluations)
@click.option("--format", "kind", type=click.Choice(list(FORMATS)), default="json", show_default=True,
              help="json: everything; parquet: a row a query; trec: run and qrels files for trec_eval.")  # fmt: skip
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), show_default=True,
              metavar="DIR", help="Folder to write to; made if it does not exist.")  # fmt: skip
@options.evaluation_address()
@asynchronous
async def export(reference: str, kind: str, folder: Path, address: str | None) -> None:
    """Write the succeeded evaluation ID to files named by its id.

    Example: evalctl export 3f2a --format trec --to exported
    """
    async with options.evaluation_client(address) as client:
        evaluation = await references.found(client, reference)
        if evaluation.state != pb.EVALUATION_STATE_SUCCEEDED:
            raise CommandFailed(f"{evaluation.name} has no results: it is {references.state(evaluation)}", EXIT_USER)
        folder.mkdir(parents=True, exist_ok=True)
        async for line in FORMATS[kind](client, evaluation, folder / references.identifier(evaluation)):
            click.echo(line)
