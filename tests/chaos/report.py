"""What a run found, as lines, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.common import machine, table
from tests.chaos.activities import ACTIVITIES
from tests.chaos.matrix import Cell, Found

_COLUMNS = ("target", "fault", "during", "struck after", "for", "lost", "differed", "refused", "first success", "done",
            "undisturbed", "verdict")  # fmt: skip
_VERDICTS = ("held", "refused", "missed", "BROKEN")


@dataclass
class Run:
    """All that was found with one seed."""

    seed: int
    found: list[Found] = field(default_factory=list)

    @property
    def broken(self) -> list[Found]:
        return [found for found in self.found if found.verdict in ("BROKEN", "missed")]

    @property
    def markdown(self) -> str:
        ran = [found for found in self.found if found.verdict != "left out"]
        counted = {verdict: sum(found.verdict == verdict for found in ran) for verdict in _VERDICTS}
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counted.items() if count)
        head = f"Seed {self.seed}; {machine()}. {len(ran)} cells: {summary}."
        left = [found.cell for found in self.found if found.verdict == "left out"]
        reasons = [[reason, ", ".join(_names(left, reason))] for reason in dict.fromkeys(cell.because for cell in left)]
        parts = [head, table(_COLUMNS, [_row(found) for found in ran])]
        return "\n\n".join([*parts, table(("left out because", "cells"), reasons)] if left else parts)


def _names(cells: list[Cell], reason: str) -> list[str]:
    """Cells that are left out for a reason; those that are so during all activities by target and fault alone."""
    names: dict[str, list[str]] = {}
    for cell in cells:
        if cell.because == reason:
            names.setdefault(f"{cell.target}/{cell.fault}", []).append(cell.activity)
    return [name if len(during) == len(ACTIVITIES) else f"{name}/{one}" for name, during in names.items()
            for one in (during if len(during) < len(ACTIVITIES) else during[:1])]  # fmt: skip


def line(found: Found) -> str:
    """One line for whoever watches."""
    told = "; ".join([*found.lost, *filter(None, (found.differed, found.note))])
    first = "-" if found.first_success is None else f"{found.first_success:.1f}"
    return (
        f"{found.cell.name:36} {found.verdict:8} struck after {found.struck:4.1f} s for {found.fault_seconds:4.1f} s, "
        f"first success {first:>4} s and done {found.done or 0:5.1f} s after it {told[:300]}"
    )


def _row(found: Found) -> list[str]:
    first = "-" if found.first_success is None else f"{found.first_success:.1f} s"
    return [
        found.cell.target, found.cell.fault, found.cell.activity,
        f"{found.struck:.1f} s", f"{found.fault_seconds:.1f} s",
        "; ".join(found.lost) or "nothing", found.differed or "nothing", str(found.refused or "none"), first,
        f"{found.done or 0:.1f} s", f"{found.calm:.1f} s", found.verdict,
    ]  # fmt: skip


def write_json(run: Run, file: Path) -> None:
    content = {"seed": run.seed, "machine": str(machine()), "found": [asdict(found) for found in run.found]}
    file.write_text(json.dumps(content, indent=1) + "\n")
