"""`evalctl embed`: vectors of a few texts on the screen, or of very many in a file."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embedscale.cli import completing, options, printing, texts
from embedscale.cli.errors import CommandFailed, blocking
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.vector_files import KINDS, rows, vector_file
from embedscale.client import EmbeddingClient, EmbedResult
from embedscale.client.embedding import Encoding
from embedscale.client.results import joined

_SHOWN_NUMBERS = 4
_SHOWN_CHARACTERS = 40
_TEXTS_A_LINE = 10_000

Blocks = Iterator[tuple[list[str], EmbedResult]]


@click.command()
@click.argument("given", metavar="[TEXTS]...", nargs=-1)
@click.option("--model", required=True, shell_complete=completing.models, help="Catalog name of the model.")
@click.option("--in", "files", multiple=True,
              type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), metavar="FILE",
              help="Embed the lines of this file; - for standard input; repeat for several.")  # fmt: skip
@click.option("--input-type", type=click.Choice(["query", "document"]), default="document", show_default=True,
              help="What the texts are for; picks the model's prompt.")  # fmt: skip
@click.option("--dimensions", "--dims", type=click.IntRange(0), default=0,
              help="Length of the vectors; 0: the model's own.")  # fmt: skip
@click.option("--encoding", type=click.Choice(get_args(Encoding)), default="float32", show_default=True,
              help="How numbers travel and are written: int8 as round(127 x), binary as a bit each.")  # fmt: skip
@click.option("--truncation", type=click.Choice(["error", "end", "windows"]), default="error", show_default=True,
              help="What to do with texts that are too long.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write vectors to this file as they come, and print only counts.")  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(list(KINDS)), help="Format of --out; by default that of its ending."
)
@options.embedding_addresses()
@options.output()
@blocking
def embed(
    given: Sequence[str],
    files: Sequence[Path],
    out: Path | None,
    kind: str | None,
    addresses: Sequence[str],
    output: str,
    **how: Any,
) -> None:
    """Embed TEXTS, or the lines of files or of standard input.

    Empty lines are left out; row i of the output is line i of the rest. With --out any number of texts is embedded in
    bounded memory, and the file appears when it is whole.

    Example: evalctl embed --model all-MiniLM-L6-v2 --in corpus.txt --out corpus.parquet
    """
    if given and files:
        raise CommandFailed("give texts or --in, not both", EXIT_USER)
    source = _arguments(given) if given else texts.lines(files or [texts.STANDARD_INPUT])
    with options.sync_embedding_client(addresses) as client:
        blocks = _blocks(client, source, **how)
        if out:
            _write(blocks, out, kind, output)
        else:
            _print(blocks, output)


def _arguments(given: Sequence[str]) -> Iterator[str]:
    for text in given:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise CommandFailed("a text is not UTF-8", EXIT_USER)
        yield text


def _blocks(client: EmbeddingClient, source: Iterable[str], **how: Any) -> Blocks:
    """Yield texts with their vectors, in the order of the texts. Raises CommandFailed if there are none."""
    waiting: deque[str] = deque()

    def remembered() -> Iterator[str]:
        for text in source:
            waiting.append(text)
            yield text

    empty = True
    for block in client.embed_iter(remembered(), **how):
        empty = False
        yield [waiting.popleft() for _ in range(len(block))], block
    if empty:
        raise CommandFailed("no texts: give them as arguments, as lines of --in or of standard input", EXIT_USER)


def _dimensions(result: EmbedResult) -> int:
    """Length of the vectors; of bits, which come in bytes, a multiple of eight."""
    return int(result.vectors.shape[1]) * (8 if result.vectors.dtype == np.uint8 else 1)


def _write(blocks: Blocks, out: Path, kind: str | None, output: str) -> None:
    """Write a file and count what goes into it."""
    counts = {"texts": 0, "dimensions": 0, "cache_hits": 0, "truncated": 0, "tokens_used": 0}
    fingerprint = ""
    with vector_file(out, kind) as file, _Told() as told:
        for batch, block in blocks:
            file.write(batch, block)
            fingerprint = block.fingerprint
            counts["dimensions"] = _dimensions(block)
            counts["texts"] = told.more(len(batch))
            for name in ("cache_hits", "truncated", "tokens_used"):
                counts[name] += getattr(block, name)
    line = f"{out}: {counts['texts']} texts, {counts['cache_hits']} were cached, {counts['tokens_used']} tokens"
    printing.say(output, {"file": str(out), **counts, "fingerprint": fingerprint}, line)


def _print(blocks: Blocks, output: str) -> None:
    given: list[str] = []
    results = []
    for batch, block in blocks:
        given += batch
        results.append(block)
    result = joined(results)
    listed, dimensions = rows(given, result), str(_dimensions(result))
    table = Table("VECTOR", "DIMENSIONS", "TOKENS", "FROM", "TEXT", box=None)
    for row, vector in zip(listed, result.vectors, strict=True):
        numbers = " ".join(f"{number:+.4g}" for number in vector[:_SHOWN_NUMBERS])
        counted = "not told" if row["token_count"] is None else f"{row['token_count']}"
        origin = "cache" if row["cache_hit"] else "model"
        table.add_row(f"{numbers} ...", dimensions, counted, origin, escape(row["text"][:_SHOWN_CHARACTERS]))
    value = {"fingerprint": result.fingerprint, "tokens_used": result.tokens_used, "embeddings": listed}
    printing.show(output, value, table)


class _Told:
    """How far it is: a counter on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._done = 0
        self._status = Console(stderr=True).status("0 texts")

    def more(self, count: int) -> int:
        """Add to the count, and return it."""
        before, self._done = self._done, self._done + count
        self._status.update(f"{self._done} texts")
        if not sys.stderr.isatty() and before // _TEXTS_A_LINE < self._done // _TEXTS_A_LINE:
            click.echo(f"{self._done} texts", err=True)
        return self._done

    def __enter__(self) -> "_Told":
        if sys.stderr.isatty():
            self._status.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._status.stop()
