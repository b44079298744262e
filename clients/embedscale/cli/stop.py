"""`evalctl cancel` and `evalctl delete`: evaluations that are not wanted any more."""

from collections.abc import Sequence

import click

from embedscale.cli import completing, options, references
from embedscale.cli.errors import asynchronous


@click.command()
@click.argument("given", metavar="ID...", nargs=-1, required=True, shell_complete=completing.evaluations)
@options.evaluation_address()
@asynchronous
async def cancel(given: Sequence[str], address: str | None) -> None:
    """Stop the evaluations ID, wherever they run; those that have ended stay as they are.

    Example: evalctl cancel 3f2a
    """
    async with options.evaluation_client(address) as client:
        for reference in given:
            evaluation = await client.cancel((await references.found(client, reference)).name)
            click.echo(f"{evaluation.name} {references.state(evaluation)}")


@click.command()
@click.argument("given", metavar="ID...", nargs=-1, required=True, shell_complete=completing.evaluations)
@options.evaluation_address()
@asynchronous
async def delete(given: Sequence[str], address: str | None) -> None:
    """Forget the evaluations ID with their events and results; those that run are stopped.

    Example: evalctl delete 3f2a
    """
    async with options.evaluation_client(address) as client:
        for reference in given:
            evaluation = await references.found(client, reference)
            await client.delete(evaluation.name)
            click.echo(f"{evaluation.name} deleted")
