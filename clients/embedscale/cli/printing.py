"""What commands write to standard output: JSON and YAML have everything, the others what a person reads."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

FORMATS = ("table", "json", "yaml", "csv", "markdown")

_WIDTH_OF_FILES = 250
_WIDER_THAN_ANY_TABLE = 10_000

Value = Mapping[str, Any]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Fail as other output does: rich ends the process with 1, which says here that a gate failed."""
        raise BrokenPipeError


def show(kind: str, value: Value | Callable[[], Value], *tables: Table) -> None:
    """Write `value`, or the tables, in one of `FORMATS`. A function is called for the value only where it is needed."""
    if kind in ("json", "yaml"):
        written = value() if callable(value) else value
        click.echo(_as_json(written) if kind == "json" else _as_yaml(written))
        return
    for place, table in enumerate(one for one in tables if one.row_count or one is tables[0]):
        if place:
            click.echo()
        {"table": as_table, "csv": _as_csv, "markdown": _as_markdown}[kind](table)


def say(kind: str, value: Value, line: str) -> None:
    """Write what a sentence tells: the sentence where tables are wanted, else as `show` does."""
    if kind == "table":
        click.echo(line)
    else:
        show(kind, value, facts({name: str(fact) for name, fact in value.items()}))


def as_dict(message: Message, *, unset: bool = False) -> dict[str, Any]:
    """Fields of a message by name, enums by their names; with `unset`, those too that have their default.

    Protobuf writes 64-bit numbers as strings; scripts want numbers. Those of messages inside stay strings.
    """
    written = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=unset)
    numbers = {field.name for field in message.DESCRIPTOR.fields if field.cpp_type == field.CPPTYPE_UINT64}
    return {name: int(value) if name in numbers else value for name, value in written.items()}


def facts(rows: Mapping[str, str]) -> Table:
    """Make a table of two columns without a header."""
    table = Table(box=None, show_header=False)
    for name, fact in rows.items():
        table.add_row(name, escape(fact))
    return table


def as_table(table: Table) -> None:
    """Write a table: as wide as the terminal, where long names are folded, and as wide as it needs elsewhere."""
    for column in table.columns:
        column.no_wrap, column.overflow = not sys.stdout.isatty(), "fold"
    _Console(width=None if sys.stdout.isatty() else _WIDER_THAN_ANY_TABLE).print(table)


def _as_json(value: Value) -> str:
    """Floats have all their digits, so that reading them gives the same numbers."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _as_yaml(value: Value) -> str:
    import yaml

    # Through JSON, so that both have the same types.
    plain = json.loads(json.dumps(value))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=_WIDTH_OF_FILES)).rstrip()


def _as_csv(table: Table) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows(_rows(table))


def _as_markdown(table: Table) -> None:
    header, *rows = _rows(table)
    for row in (header, ["---"] * len(header), *rows):
        click.echo("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |")


def _rows(table: Table) -> Iterator[list[str]]:
    """Header and rows as plain text; a table without a header is one of facts and values."""
    yield [_plain(column.header) for column in table.columns] if table.show_header else ["fact", "value"]
    yield from ([_plain(cell) for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True))


def _plain(cell: Any) -> str:
    return Text.from_markup(str(cell)).plain
