"""Options that several commands share."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from embedscale.cli.contexts import LOCAL, Context, Contexts
from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.home import Home
from embedscale.cli.printing import FORMATS
from embedscale.client import (
    AsyncCacheClient,
    AsyncEmbeddingClient,
    AsyncEvaluationClient,
    EmbeddingClient,
    EvaluationClient,
)
from embedscale.client.options import ClientOptions

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Client = TypeVar("Client")
Address = TypeVar("Address", str, Sequence[str], list[str])


def embedding_addresses() -> Decorator:
    """--embedding-address, as often as needed."""
    return click.option(
        "--embedding-address",
        "addresses",
        multiple=True,
        metavar="HOST:PORT",
        envvar="EVALCTL_EMBEDDING_ADDRESS",
        help="EmbeddingService to ask; by default those of the context.",
    )


def evaluation_address() -> Decorator:
    """--evaluation-address."""
    return click.option(
        "--evaluation-address",
        "address",
        metavar="HOST:PORT",
        envvar="EVALCTL_EVALUATION_ADDRESS",
        help="EvaluationService to ask; by default that of the context.",
    )


def output() -> Decorator:
    """-o, one of `printing.FORMATS`."""
    return click.option("-o", "--output", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True,
                        help="Format; json and yaml have everything, the others what a person reads.")  # fmt: skip


def embedding_client(addresses: Sequence[str]) -> AsyncEmbeddingClient:
    """Client of the addresses given, or of the context's. Raises CommandFailed where there is no cluster."""
    return _made(AsyncEmbeddingClient, *embedding(addresses))


def sync_embedding_client(addresses: Sequence[str]) -> EmbeddingClient:
    """Return the same without asyncio, for texts that are waited for."""
    return _made(EmbeddingClient, *embedding(addresses))


def cache_client(addresses: Sequence[str]) -> AsyncCacheClient:
    """Client of the caches of the addresses given, or of the context's. Raises CommandFailed."""
    return _made(AsyncCacheClient, *embedding(addresses))


def evaluation_client(address: str | None) -> AsyncEvaluationClient:
    """Client of the address given, or of the context's. Raises CommandFailed where there is no cluster."""
    return _made(AsyncEvaluationClient, *evaluation(address))


def sync_evaluation_client(address: str | None) -> EvaluationClient:
    """Return the same without asyncio, for what is written as it comes."""
    return _made(EvaluationClient, *evaluation(address))


def embedding(addresses: Sequence[str]) -> tuple[Sequence[str], ClientOptions]:
    """Where embedding servers are and how to reach them."""
    chosen = context(bool(addresses))
    return addresses or _known(chosen.embedding_addresses, "embedding"), chosen.client_options()


def evaluation(address: str | None) -> tuple[str, ClientOptions]:
    """Where the evaluator is and how to reach it."""
    chosen = context(bool(address))
    return address or _known(chosen.evaluation_address, "evaluation"), chosen.client_options()


def context(addressed: bool) -> Context:
    """Return the context that holds: --context, $EVALCTL_CONTEXT, the current one, the cluster of this machine.

    Who gives an address and names no context gets none: the token of the current one is not for just any server.
    """
    named = chosen_name()
    if addressed and not named:
        return Context()
    contexts = Contexts()
    name = named or contexts.current
    return _local(addressed) if name == LOCAL else contexts.get(name)


def chosen_name() -> str | None:
    """Name after --context or in $EVALCTL_CONTEXT."""
    given: str | None = click.get_current_context().find_root().params.get("context_name")
    return given


def _known(address: Address, kind: str) -> Address:
    if not address:
        raise CommandFailed(f"the context has no {kind} address; `evalctl context set` gives it one", EXIT_USER)
    return address


def _local(addressed: bool) -> Context:
    state = Home().cluster()
    if state is None and not addressed:
        raise CommandFailed("no cluster is up: `evalctl up --detach` starts one, or give an address", EXIT_USER)
    return Context(state.embedding_addresses, state.evaluation_address) if state else Context()


def _made(kind: Callable[[Address, ClientOptions], Client], address: Address, options: ClientOptions) -> Client:
    try:
        return kind(address, options)
    except ValueError as error:
        raise CommandFailed(str(error), EXIT_USER) from None


def located(dataset: str, folder: Path = Path()) -> str:
    """Make a path absolute, since the evaluator has another working directory; leave URIs as they are.

    Raises CommandFailed for a name that is not UTF-8, which no request can hold.
    """
    if dataset.encode("utf-8", "ignore").decode() != dataset:
        raise CommandFailed(f"{dataset!r}: the name is not UTF-8", EXIT_USER)
    return dataset if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", dataset) else str((folder / dataset).absolute())
