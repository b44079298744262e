"""What the shell's Tab finds on the cluster: quickly, or nothing at all."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

Items = Iterable[tuple[str, str]]
"""Values with a word of help each."""

_SECONDS = 1.5
_MOST = 50


def models(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Models that the cluster serves."""
    return _found(context, _models(), typed)


def datasets(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Data sets that the evaluator knows by name, and files."""
    if typed.startswith((".", "/", "~")):
        return [CompletionItem(typed, type="file")]
    return _found(context, _datasets(), typed)


def evaluations(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of the newest evaluations."""
    return _found(context, _evaluations(), typed)


def contexts(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of contexts."""
    with contextlib.suppress(Exception):
        from embedscale.cli.contexts import LOCAL, Contexts

        return [CompletionItem(name) for name in (LOCAL, *Contexts().contexts) if name.startswith(typed)]
    return []


def _found(context: click.Context, asked: Coroutine[Any, Any, Items], typed: str) -> list[CompletionItem]:
    """A shell that waits for a line has no place for errors: whatever goes wrong, nothing is offered."""
    with context.scope(cleanup=False), contextlib.suppress(Exception):
        items = asyncio.run(asyncio.wait_for(asked, _SECONDS))
        return [CompletionItem(value, help=told) for value, told in items if value.startswith(typed)]
    return []


async def _models() -> Items:
    from embedscale.cli import options

    async with options.embedding_client(()) as client:
        return [(model.name, model.license) for model in await client.models()]


async def _datasets() -> Items:
    from embedscale.cli import options

    async with options.evaluation_client(None) as client:
        return [(dataset.uri, dataset.title) for dataset in await client.datasets()]


async def _evaluations() -> Items:
    from embedscale.cli import options
    from embedscale.cli.references import SHORT, identifier

    items: list[tuple[str, str]] = []
    async with options.evaluation_client(None) as client:
        async for one in client.list():
            items.append((identifier(one)[:SHORT], f"{one.spec.model} {one.spec.dataset}"))
            if len(items) == _MOST:
                break
    return items
