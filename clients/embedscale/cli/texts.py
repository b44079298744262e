"""Texts from files or from standard input: a line each, read as they are needed."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER

STANDARD_INPUT = Path("-")


def lines(files: Sequence[Path]) -> Iterator[str]:
    """Lines of the files, one file after the other, without those that are empty. Raises CommandFailed."""
    for file in files:
        with ExitStack() as stack:
            raw: Iterable[bytes] = sys.stdin.buffer if file == STANDARD_INPUT else stack.enter_context(file.open("rb"))
            for number, line in enumerate(raw, 1):
                if text := _decoded(line, file, number).rstrip("\r\n"):
                    yield text


def _decoded(line: bytes, file: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        name = "standard input" if file == STANDARD_INPUT else file
        raise CommandFailed(f"{name} is not UTF-8: see line {number}", EXIT_USER) from None
