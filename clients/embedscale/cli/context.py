"""`evalctl context`: clusters by name."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from embedscale.cli import completing, keyring_tokens, options, printing
from embedscale.cli.contexts import LOCAL, Context, Contexts
from embedscale.cli.errors import CommandFailed, reported
from embedscale.cli.exit_codes import EXIT_USER


@click.group()
def context() -> None:
    """Choose the cluster that commands talk to.

    Without a choice it is that of `evalctl up`, which is named local. An address given to a command, by an option or
    a variable, wins over --context, that over $EVALCTL_CONTEXT, that over `context use`.

    Example: evalctl context list
    """


@context.command("set")
@click.argument("name")
@click.option("--embedding-address", "embedding_addresses", multiple=True, metavar="HOST:PORT",
              help="EmbeddingService; dns:///NAME:PORT takes all replicas; repeat for several.")  # fmt: skip
@click.option("--evaluation-address", default="", metavar="HOST:PORT", help="EvaluationService.")
@click.option("--tls", is_flag=True, help="Encrypt; a file below means that too.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False, resolve_path=True),
              help="PEM file of the authorities that sign the servers' certificates.")  # fmt: skip
@click.option("--certificate-file", type=click.Path(exists=True, dir_okay=False, resolve_path=True),
              help="PEM file of your certificate, for servers that ask for one.")  # fmt: skip
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, resolve_path=True),
              help="PEM file of its private key.")  # fmt: skip
@click.option("--server-name", default="", help="Name in the servers' certificates, where it is not the address's.")
@click.option("--token-env", default="", metavar="VARIABLE", help="The token is in this environment variable.")
@click.option("--token-file", type=click.Path(dir_okay=False, resolve_path=True),
              help="The token is in this file.")  # fmt: skip
@click.option(
    "--token-keyring",
    is_flag=True,
    help="Ask for the token now, or read it from standard input, and keep it in the system's keyring.",
)
@reported
def set_(name: str, embedding_addresses: Sequence[str], token_keyring: bool, **given: str | bool | None) -> None:
    """Set the context NAME, and replace the one that has the name.

    Example: evalctl context set production --embedding-address dns:///embedder.example.com:50051 --evaluation-address evaluator.example.com:50053 --tls --token-env EMBEDSCALE_TOKEN
    """  # noqa: E501
    if bool(given["token_env"]) + bool(given["token_file"]) + token_keyring > 1:
        raise CommandFailed("give one of --token-env, --token-file, --token-keyring", EXIT_USER)
    stored: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    kept = Context(list(embedding_addresses), token_keyring=name if token_keyring else "", **stored)
    kept.check()
    contexts = Contexts()
    if token_keyring:
        keyring_tokens.store(name, _asked_for_token())
    contexts.set(name, kept)
    click.echo(f"context {name} is set; `evalctl context use {name}` makes it the current one")


def _asked_for_token() -> str:
    """Ask at a terminal, without showing it; read a line from what a script pipes in."""
    if sys.stdin.isatty():
        return str(click.prompt("token", hide_input=True, err=True))
    token = sys.stdin.readline().strip()
    if not token:
        raise CommandFailed("no token on standard input", EXIT_USER)
    return token


@context.command()
@click.argument("name", shell_complete=completing.contexts)
@reported
def use(name: str) -> None:
    """Make the context NAME the current one; local is the cluster of this machine.

    Example: evalctl context use production
    """
    Contexts().use(name)
    click.echo(f"commands talk to {name} from now on")


@context.command("list")
@options.output()
@reported
def list_(output: str) -> None:
    """List the contexts; the current one has a star.

    Example: evalctl context list
    """
    contexts = Contexts()
    current = options.chosen_name() or contexts.current
    known = {LOCAL: Context(), **contexts.contexts}
    value = [{"name": name, "current": name == current, **asdict(one)} for name, one in known.items()]
    table = Table("CURRENT", "NAME", "EMBEDDING", "EVALUATION", "TLS", "TOKEN", box=None)
    for name, one in known.items():
        where = (", ".join(one.embedding_addresses), one.evaluation_address)
        cells = ("*" if name == current else "", name, *where, one.encryption(), one.token_place())
        table.add_row(*map(escape, cells))
    printing.show(output, {"contexts": value}, table)


@context.command()
@click.argument("name", shell_complete=completing.contexts)
@reported
def delete(name: str) -> None:
    """Delete the context NAME, and its token in the keyring, but not the cluster.

    Example: evalctl context delete production
    """
    Contexts().delete(name)
    click.echo(f"context {name} is deleted")
