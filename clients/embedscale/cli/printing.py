"""What commands write to standard output."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table

_WIDTH_OF_FILES = 250


def as_json(value: Mapping[str, Any]) -> None:
    """Write JSON; floats have all their digits, so that reading them gives the same numbers."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def as_table(table: Table) -> None:
    """Write a table: as wide as the terminal, and as wide as it needs where there is none."""
    for column in table.columns:
        column.no_wrap = not sys.stdout.isatty()
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES).print(table)
