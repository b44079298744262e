"""`evalctl embed`: vectors of a few texts."""

import sys
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Literal

import click
import numpy as np
from numpy.typing import NDArray

from embedscale.cli import options, printing
from embedscale.cli.errors import EXIT_USER, CommandFailed, asynchronous
from embedscale.client import EmbedResult
from embedscale.client.results import UNTOLD

_SHOWN_NUMBERS = 4


@click.command()
@click.argument("texts", nargs=-1)
@click.option("--model", required=True, help="Catalog name of the model.")
@click.option("--input-type", type=click.Choice(["query", "document"]), default="document", show_default=True,
              help="What the texts are for; picks the model's prompt.")  # fmt: skip
@click.option("--dimensions", type=click.IntRange(0), default=0, help="Length of the vectors; 0: the model's own.")
@click.option("--truncation", type=click.Choice(["error", "end", "windows"]), default="error", show_default=True,
              help="What to do with texts that are too long.")  # fmt: skip
@click.option("--out", type=click.File("wb"), help="Write the matrix to this .npy file.")
@options.embedding_addresses()
@options.output()
@asynchronous
async def embed(
    texts: Sequence[str],
    model: str,
    input_type: Literal["query", "document"],
    dimensions: int,
    truncation: Literal["error", "end", "windows"],
    out: BinaryIO | None,
    addresses: Sequence[str],
    output: str,
) -> None:
    """Embed TEXTS, or the lines of standard input.

    Example: evalctl embed --model all-MiniLM-L6-v2 "What is MRR?"
    """
    given = list(texts) or [line for line in sys.stdin.read().splitlines() if line]
    if not given:
        raise CommandFailed("no texts: give them as arguments or as lines of standard input", EXIT_USER)
    if any("\ud800" <= character <= "\udfff" for text in given for character in text):
        raise CommandFailed("a text is not UTF-8", EXIT_USER)
    async with options.embedding_client(addresses) as client:
        result = await client.embed(
            given, model=model, input_type=input_type, dimensions=dimensions, truncation=truncation
        )
    if out:
        np.save(out, result.vectors)
    if output == "json":
        printing.as_json(_as_dict(given, result))
    else:
        _print_table(given, result)


def _as_dict(texts: Sequence[str], result: EmbedResult) -> dict[str, object]:
    return {
        "fingerprint": result.fingerprint,
        "tokens_used": result.tokens_used,
        "embeddings": [
            {
                "text": text,
                "token_count": count if count != UNTOLD else None,
                "truncated": truncated,
                "cache_hit": cached,
                "embedding": vector.astype(float).tolist(),
            }
            for text, vector, count, truncated, cached in _rows(texts, result)
        ],
    }


def _rows(texts: Sequence[str], result: EmbedResult) -> Iterator[tuple[str, NDArray[np.float32], int, bool, bool]]:
    facts = (result.token_counts.tolist(), result.truncated_rows.tolist(), result.cached_rows.tolist())
    return zip(texts, result.vectors, *facts, strict=True)


def _print_table(texts: Sequence[str], result: EmbedResult) -> None:
    for text, vector, count, _, cached in _rows(texts, result):
        numbers = " ".join(f"{number:+.4f}" for number in vector[:_SHOWN_NUMBERS])
        origin = "cached" if cached else "computed"
        counted = f"{count} tokens" if count != UNTOLD else "tokens not told"
        click.echo(f"[{numbers} ... {len(vector)} numbers]  {counted}, {origin}  {text[:40]!r}")
