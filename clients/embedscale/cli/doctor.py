"""`evalctl doctor`: what works between here and the models, and what to do about the rest."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict

import click
from rich.markup import escape
from rich.table import Table

from embedscale.cli import options, printing
from embedscale.cli.checks import Check, check_python, check_services
from embedscale.cli.errors import CommandFailed, asynchronous
from embedscale.cli.exit_codes import EXIT_GATE
from embedscale.cli.reaching import check_reachable
from embedscale.client.options import ClientOptions

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@options.embedding_addresses()
@options.evaluation_address()
@options.output()
@asynchronous
async def doctor(addresses: Sequence[str], address: str | None, output: str) -> None:
    """Check everything between here and the cluster's models, and say what to do.

    Looks at names (DNS), connections, encryption, health, versions, clocks, Redis, models, and what `evalctl up` needs.
    Exits with 1 when something failed.

    Example: evalctl doctor
    """
    checks = [check async for check in _checks(addresses, address)]
    table = Table("STATUS", "CHECK", "FOUND", "WHAT TO DO", box=None)
    for check in checks:
        coloured = f"[{_COLOURS[check.status]}]{check.status}[/]"
        table.add_row(coloured, *map(escape, (check.name, check.found, check.advice)))
    counts = Counter(check.status for check in checks)
    printing.show(output, {"checks": [asdict(check) for check in checks], "counts": dict(counts)}, table)
    if counts["fail"]:
        sys.exit(EXIT_GATE)


async def _checks(addresses: Sequence[str], address: str | None) -> AsyncIterator[Check]:
    yield check_python()
    services: dict[str, tuple[Sequence[str], ClientOptions]] = {}
    missing: dict[str, str] = {}
    for kind in ("embedding", "evaluation"):
        try:
            services[kind] = _where(kind, addresses, address)
        except (CommandFailed, OSError) as error:
            missing[kind] = str(error)
    for kind, why in missing.items():
        # Who only embeds needs no evaluator, and the other way round.
        advice = "`evalctl up --detach`, or `evalctl context set`"
        yield Check("warn" if services else "fail", f"{kind} address", why, advice)
    for kind, (places, how) in services.items():
        for place in places:
            async for check in _check(kind, place, how):
                yield check


async def _check(kind: str, place: str, how: ClientOptions) -> AsyncIterator[Check]:
    reached = [check async for check in check_reachable(place, how)]
    for check in reached:
        yield check
    if all(check.status != "fail" for check in reached):
        async for check in check_services(kind, place, how):
            yield check


def _where(kind: str, addresses: Sequence[str], address: str | None) -> tuple[Sequence[str], ClientOptions]:
    if kind == "embedding":
        return options.embedding(addresses)
    place, how = options.evaluation(address)
    return [place], how
