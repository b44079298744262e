"""`evalctl watch`: an evaluation that somebody started, live."""

import click

from embedscale.cli import completing, options, printing, references, results
from embedscale.cli.errors import asynchronous
from embedscale.cli.evaluations import Wanted, follow
from embedscale.cli.live import live_view


@click.command()
@click.argument("reference", metavar="ID", shell_complete=completing.evaluations)
@options.evaluation_address()
@options.output()
@asynchronous
async def watch(reference: str, address: str | None, output: str) -> None:
    """Follow the evaluation ID to its end; Ctrl-C ends only the watching.

    Example: evalctl watch 3f2a
    """
    async with options.evaluation_client(address) as client:
        found = await references.found(client, reference)
        with live_view([Wanted(found.spec.model, found.spec.dataset)]) as view:
            evaluation = await follow(client, 0, found.name, view.show, view.wait)
    printing.show(output, results.as_dict(evaluation), results.as_table([evaluation]))
