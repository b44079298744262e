"""`evalctl models`: what can be evaluated."""

from collections.abc import Sequence

import click
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from embedscale.cli import options, printing
from embedscale.cli.errors import asynchronous
from embedscale.client import AsyncEmbeddingClient
from embedscale.v1 import embedding_service_pb2 as pb


@click.command()
@options.embedding_addresses()
@options.output("table", "json")
@asynchronous
async def models(addresses: Sequence[str], output: str) -> None:
    """List the models that the cluster serves.

    Example: evalctl models
    """
    async with AsyncEmbeddingClient(options.embedding_or_local(addresses)) as client:
        listed = await client.models()
    if output == "json":
        printing.as_json({"models": [MessageToDict(model, preserving_proto_field_name=True) for model in listed]})
    else:
        printing.as_table(_table(listed))


def _table(listed: Sequence[pb.Model]) -> Table:
    table = Table("MODEL", "STATE", "ENGINE", "DIMENSIONS", "MAX TOKENS", "LICENCE", "SOURCE", box=None)
    for model in listed:
        state = pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
        limit = str(model.max_tokens or "no limit")
        table.add_row(model.name, state, model.engine, str(model.dimensions), limit, model.license, model.source)
    return table
