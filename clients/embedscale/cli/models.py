"""`evalctl models`: what can be evaluated."""

from collections.abc import Mapping, Sequence

import click
from click.core import ParameterSource
from rich.markup import escape
from rich.table import Table

from embedscale.cli import completing, options, printing
from embedscale.cli.errors import asynchronous
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

_GIGABYTE = 1e9
_MEGABYTE = 1e6


@click.group(invoke_without_command=True)
@options.embedding_addresses()
@options.output()
@click.pass_context
def models(context: click.Context, addresses: Sequence[str], output: str) -> None:
    """List the models that the cluster serves, or show one of them.

    Example: evalctl models
    """
    if context.invoked_subcommand is None:
        context.invoke(list_models, addresses=addresses, output=output)
    elif any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
        raise click.UsageError(f"put options behind {context.invoked_subcommand!r}: before it they mean nothing")


@models.command("list")
@options.embedding_addresses()
@options.output()
@asynchronous
async def list_models(addresses: Sequence[str], output: str) -> None:
    """List the models that the cluster serves.

    Example: evalctl models list
    """
    async with options.embedding_client(addresses) as client:
        listed = await client.models()
    printing.show(output, {"models": [printing.as_dict(model) for model in listed]}, _table(listed))


@models.command()
@click.argument("name", shell_complete=completing.models)
@options.embedding_addresses()
@options.output()
@asynchronous
async def show(name: str, addresses: Sequence[str], output: str) -> None:
    """Show all that is known of the model NAME.

    Example: evalctl models show all-MiniLM-L6-v2
    """
    async with options.embedding_client(addresses) as client:
        model = await client.model(name)
    printing.show(output, printing.as_dict(model), printing.facts(_facts(model)))


def _table(listed: Sequence[pb.Model]) -> Table:
    table = Table("MODEL", "STATE", "ENGINE", "DIMENSIONS", "MAX TOKENS", "LICENCE", "SOURCE", box=None)
    for model in listed:
        row = (model.name, _state(model), model.engine, _dimensions(model), _limit(model), model.license, model.source)
        table.add_row(*map(escape, row))
    return table


def _facts(model: pb.Model) -> Mapping[str, str]:
    """What a person wants to know of a model, in that order; what does not apply to it is left out."""
    facts = {
        "name": model.name,
        "state": f"{_state(model)}: {model.state_message}" if model.state_message else _state(model),
        "licence": model.license or "unknown",
        "dimensions": _dimensions(model),
        "maximum tokens": _limit(model),
        "long texts": ", ".join(wire.Truncation.Name(way).removeprefix("TRUNCATION_") for way in model.truncations),
        "parameters": f"{model.parameters / _MEGABYTE:,.1f} million" if model.parameters else "unknown",
        "memory": _memory(model.memory_bytes) if model.memory_bytes else "",
        "pooling": model.pooling,
        "normalised": "yes" if model.normalized else "no",
        "prompts": "differ for queries and documents" if model.requires_input_type else "the same for all texts",
        "number format": model.dtype,
        "quantization": model.quantization,
        "engine": model.engine,
        "source": model.source,
        "revision": model.revision,
        "fingerprint": model.fingerprint,
        "price": _price(model.price_per_million_tokens),
    }
    return {fact: value for fact, value in facts.items() if value}


def _state(model: pb.Model) -> str:
    return pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()


def _dimensions(model: pb.Model) -> str:
    shorter = [length for length in model.supported_dimensions if length != model.dimensions]
    cut = f", or cut to {', '.join(map(str, shorter))}" if shorter else ""
    return f"{model.dimensions}{cut}" if model.dimensions else "known once it was loaded"


def _limit(model: pb.Model) -> str:
    return str(model.max_tokens or "no limit")


def _memory(size: int) -> str:
    return f"{size / _GIGABYTE:.2f} GB" if size >= _GIGABYTE else f"{size / _MEGABYTE:.1f} MB"


def _price(dollars: float) -> str:
    return f"{dollars:g} US dollars for a million tokens" if dollars else "none"
