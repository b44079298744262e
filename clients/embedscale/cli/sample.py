"""`evalctl datasets sample`: some pairs of a data set, to be read by a person."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from embedscale.cli import completing, options, printing
from embedscale.cli.errors import asynchronous

_AT_MOST = 250
"""Texts of one request, queries and documents together, are 500 at most."""

Pairs = Sequence[tuple[str, str]]


@click.command()
@click.argument("dataset", metavar="PATH-OR-URI", shell_complete=completing.datasets)
@click.option("-n", "--pairs", "count", type=click.IntRange(1, _AT_MOST), default=20, show_default=True,
              help="How many pairs.")  # fmt: skip
@click.option("--characters", type=click.IntRange(1, 1000), default=200, show_default=True,
              help="How much of each document, from its beginning.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Another number gives other pairs.")
@options.evaluation_address()
@options.output()
@asynchronous
async def sample(dataset: str, count: int, characters: int, seed: int, address: str | None, output: str) -> None:
    """Print random questions of a data set, each with the beginning of a document that answers it.

    Example: evalctl datasets sample builtin:velmar/cs -n 5
    """
    uri = options.located(dataset)
    async with options.evaluation_client(address) as client:
        pairs = await _chosen(client.judgements(uri), count, random.Random(seed))  # noqa: S311
        queries, documents = [query for query, _ in pairs], [document for _, document in pairs]
        told = await client.texts(uri, queries=queries, documents=documents, max_characters=characters)
    rows = _rows(pairs, told.queries, told.documents)
    printing.show(output, {"pairs": rows}, _table(rows))


async def _chosen(judged: AsyncIterator[tuple[str, dict[str, int]]], count: int, chance: random.Random) -> Pairs:
    """Choose pairs of a query and its best document, each query with the same chance, in one pass."""
    chosen: list[tuple[str, str]] = []
    seen = 0
    async for query, grades in judged:
        relevant = {key: grade for key, grade in grades.items() if grade > 0}
        if not relevant:
            continue
        pair = (query, max(relevant, key=relevant.__getitem__))
        place = chance.randrange(seen + 1)
        seen += 1
        if len(chosen) < count:
            chosen.insert(place, pair)
        elif place < count:
            chosen[place] = pair
    return chosen


def _rows(pairs: Pairs, queries: Mapping[str, str], documents: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"query_id": query, "query": queries[query], "document_id": document, "document": documents[document]}
        for query, document in pairs
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("QUESTION", "DOCUMENT", box=None)
    for row in rows:
        table.add_row(escape(row["query"]), escape(" ".join(row["document"].split())))
    return table
