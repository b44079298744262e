"""`evalctl cache`: what is cached, filling it beforehand, and emptying it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import click
from rich.table import Table

from embedscale.cli import completing, options, printing, texts
from embedscale.cli.errors import CommandFailed, asynchronous
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.v1 import cache_service_pb2 as pb

_MEGABYTE = 1e6


@click.group()
def cache() -> None:
    """Look into the cache of embeddings, fill it and empty it.

    Example: evalctl cache stats
    """


@cache.command()
@options.embedding_addresses()
@options.output()
@asynchronous
async def stats(addresses: Sequence[str], output: str) -> None:
    """Show hits, misses, failures and memory of each server's cache, and what Redis holds.

    Example: evalctl cache stats
    """
    async with options.cache_client(addresses) as client:
        found = await client.stats()
    servers = [{"address": address, **_as_dict(one)} for address, one in found.items()]
    printing.show(output, {"servers": servers}, _servers(found), _spaces(found))


@cache.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", required=True, shell_complete=completing.models, help="Catalog name of the model.")
@click.option("--input-type", type=click.Choice(["query", "document"]), default="document", show_default=True,
              help="What the texts are for; picks the model's prompt.")  # fmt: skip
@click.option("--truncation", type=click.Choice(["error", "end", "windows"]), default="end", show_default=True,
              help="What to do with texts that are too long.")  # fmt: skip
@options.embedding_addresses()
@options.output()
@asynchronous
async def warm(
    file: Path,
    model: str,
    input_type: Literal["query", "document"],
    truncation: Literal["error", "end", "windows"],
    addresses: Sequence[str],
    output: str,
) -> None:
    """Embed the lines of FILE, so that later requests for them are answered from the cache.

    Example: evalctl cache warm questions.txt --model all-MiniLM-L6-v2 --input-type query
    """
    count = hits = tokens = 0
    async with options.embedding_client(addresses) as client:
        lines = texts.lines([file])
        async for block in client.embed_iter(lines, model=model, input_type=input_type, truncation=truncation):
            count += len(block)
            hits += block.cache_hits
            tokens += block.tokens_used
    counts = {"texts": count, "already_cached": hits, "computed": count - hits, "tokens_used": tokens}
    line = f"{count} texts: {hits} were cached, {count - hits} were computed from {tokens} tokens"
    printing.say(output, counts, line)


@cache.command()
@click.option(
    "--model", default="", shell_complete=completing.models, help="Catalog name of the model whose vectors to drop."
)
@click.option("--fingerprint", default="", help="Fingerprint of the vector space to drop, whether or not served.")
@options.embedding_addresses()
@options.output()
@asynchronous
async def purge(model: str, fingerprint: str, addresses: Sequence[str], output: str) -> None:
    """Drop all cached vectors of a model, or of a fingerprint.

    Example: evalctl cache purge --model all-MiniLM-L6-v2
    """
    if bool(model) == bool(fingerprint):
        raise CommandFailed("give either --model or --fingerprint", EXIT_USER)
    async with options.cache_client(addresses) as client:
        purged = await client.purge(model=model, fingerprint=fingerprint)
    printing.say(output, {"purged_vectors": purged}, f"{purged} vectors were dropped")


def _as_dict(one: pb.GetCacheStatsResponse) -> Mapping[str, object]:
    return {
        **printing.as_dict(one, unset=True),
        "redis_state": _state(one),
        "errors": {error.kind: error.count for error in one.errors},
        "spaces": [
            {"fingerprint": space.fingerprint, "model": space.model, "vectors": space.vectors, "bytes": space.bytes}
            for space in one.spaces
        ],
    }


def _state(one: pb.GetCacheStatsResponse) -> str:
    return pb.RedisState.Name(one.redis_state).removeprefix("REDIS_STATE_").lower().replace("_", " ")


def _servers(found: Mapping[str, pb.GetCacheStatsResponse]) -> Table:
    table = Table("SERVER", "REDIS", "HITS IN MEMORY", "HITS IN REDIS", "MISSES", "ERRORS", "MEMORY", "REDIS USES",
                  box=None)  # fmt: skip
    for address, one in found.items():
        errors = ", ".join(f"{error.count} {error.kind}" for error in one.errors) or "none"
        used = f"{one.redis_used_bytes / _MEGABYTE:.1f} MB" if one.HasField("redis_used_bytes") else "unknown"
        hits = (str(one.memory_hits), str(one.redis_hits), str(one.misses))
        memory = f"{one.memory_bytes / _MEGABYTE:.1f} of {one.memory_limit_bytes / _MEGABYTE:.1f} MB"
        table.add_row(address, _state(one), *hits, errors, memory, used)
    return table


def _spaces(found: Mapping[str, pb.GetCacheStatsResponse]) -> Table:
    """Servers that share a Redis report the same spaces; only the server of the model knows its name."""
    table = Table("FINGERPRINT", "MODEL", "VECTORS", "BYTES", box=None)
    spaces: dict[str, pb.CachedSpace] = {}
    for space in (space for one in found.values() for space in one.spaces):
        if space.model or space.fingerprint not in spaces:
            spaces[space.fingerprint] = space
    for fingerprint, space in sorted(spaces.items()):
        table.add_row(fingerprint, space.model or "not served here", str(space.vectors), str(space.bytes))
    return table
