"""docs/comparison.md: every cell has its source, and every source its cell."""

import re
from dataclasses import dataclass, field
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text("utf-8")
MARKS = re.compile(r" \[(\d+(?:, \d+)*)\]$")
SOURCE = re.compile(r"(\d+)\. \[.+\]\((\S+)\)$")


@dataclass
class Table:
    """A table of the page and the numbered sources below it."""

    rows: list[list[str]] = field(default_factory=list)
    sources: dict[int, str] = field(default_factory=dict)

    def cells(self) -> list[str]:
        return [cell for row in self.rows[2:] for cell in row[1:]]

    def marks(self) -> set[int]:
        return {int(number) for cell in self.cells() for mark in MARKS.findall(cell) for number in mark.split(", ")}


def tables() -> list[Table]:
    found: list[Table] = []
    before = ""
    for line in PAGE.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append(Table())
            found[-1].rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif source := SOURCE.match(line):
            assert int(source[1]) not in found[-1].sources, line
            found[-1].sources[int(source[1])] = source[2]
        before = line
    return found


def test_there_are_tables_with_cells() -> None:
    assert len(tables()) > 8
    assert all(table.cells() for table in tables())


def test_every_cell_has_a_mark() -> None:
    assert [cell for table in tables() for cell in table.cells() if not MARKS.search(cell)] == []


def test_every_row_is_as_wide_as_its_head() -> None:
    assert [row for table in tables() for row in table.rows if len(row) != len(table.rows[0])] == []


def test_every_mark_has_a_source_and_every_source_a_mark() -> None:
    for table in tables():
        assert table.marks() == set(table.sources), table.rows[2]
