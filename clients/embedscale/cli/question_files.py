"""Reads questions that somebody wrote in a spreadsheet or an editor."""

import csv
from pathlib import Path
from typing import TextIO

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER

_COLUMNS = ("question", "answer")


def read_questions(path: Path) -> list[tuple[str, str]]:
    """Questions with the words that answer them, from a table with the columns `question` and `answer`.

    Cells of a `.tsv` end at tabs, those of any other file at commas. Raises CommandFailed that names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _rows(path, file)
    except UnicodeDecodeError:
        raise CommandFailed(f"{path}: not UTF-8; save it as a table in UTF-8", EXIT_USER) from None
    except csv.Error as error:
        raise CommandFailed(f"{path}: {error}", EXIT_USER) from None


def _rows(path: Path, file: TextIO) -> list[tuple[str, str]]:
    table = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    if missing := [name for name in _COLUMNS if name not in (table.fieldnames or ())]:
        raise CommandFailed(f"{path}: the first line names no column {missing[0]!r}", EXIT_USER)
    questions = []
    for row in table:
        question, answer = ((row[name] or "").strip() for name in _COLUMNS)
        if not question or not answer:
            what = "question" if not question else "answer"
            raise CommandFailed(f"{path}:{table.line_num}: the {what} is empty", EXIT_USER)
        if None in row:
            raise CommandFailed(f"{path}:{table.line_num}: too many cells; put quotes around commas", EXIT_USER)
        questions.append((question, answer))
    if not questions:
        raise CommandFailed(f"{path}: no question", EXIT_USER)
    return questions
