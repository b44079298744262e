"""Options that several commands share."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from embedscale.cli.errors import EXIT_USER, CommandFailed
from embedscale.cli.home import ClusterState, Home

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def embedding_addresses() -> Decorator:
    """--embedding-address, as often as needed."""
    return click.option(
        "--embedding-address",
        "addresses",
        multiple=True,
        metavar="HOST:PORT",
        envvar="EVALCTL_EMBEDDING_ADDRESS",
        help="EmbeddingService to ask; by default those of the cluster of this machine.",
    )


def evaluation_address() -> Decorator:
    """--evaluation-address."""
    return click.option(
        "--evaluation-address",
        "address",
        metavar="HOST:PORT",
        envvar="EVALCTL_EVALUATION_ADDRESS",
        help="EvaluationService to ask; by default that of the cluster of this machine.",
    )


def output(*kinds: str) -> Decorator:
    """-o, one of `kinds`, the first by default."""
    return click.option("-o", "--output", type=click.Choice(kinds), default=kinds[0], show_default=True, help="Format.")


def embedding_or_local(addresses: Sequence[str]) -> Sequence[str]:
    """Return the addresses given, or those of the cluster of this machine. Raises CommandFailed if there is neither."""
    return addresses or _local().embedding_addresses


def evaluation_or_local(address: str | None) -> str:
    """Return the address given, or that of the cluster of this machine. Raises CommandFailed if there is neither."""
    return address or _local().evaluation_address


def _local() -> ClusterState:
    home = Home()
    state = home.cluster()
    if state is None:
        raise CommandFailed("no cluster is up: `evalctl up --detach` starts one, or give an address", EXIT_USER)
    return state


def located(dataset: str) -> str:
    """Make a path absolute, since the evaluator has another working directory; leave URIs as they are."""
    return dataset if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", dataset) else str(Path(dataset).absolute())
