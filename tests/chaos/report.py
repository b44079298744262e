"""What a run found, as lines, as a table, as JSON and as a picture."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.common import machine, table
from tests.chaos.activities import ACTIVITIES
from tests.chaos.cluster import TARGETS
from tests.chaos.faults import FAULTS
from tests.chaos.matrix import Found

_COLUMNS = ("target", "fault", "during", "struck after", "fault", "lost", "differed", "refused", "first success", "done",
            "calm", "verdict")  # fmt: skip
_COLORS = {"held": "#2e7d32", "refused": "#b26a00", "missed": "#777777", "BROKEN": "#c62828"}


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
        rows = [_row(found) for found in ran]
        out: dict[tuple[str, str, str], list[str]] = {}
        for found in self.found:
            if found.verdict == "left out":
                key = (found.cell.fault, found.note, "")
                out.setdefault(key, []).append(f"{found.cell.target} during {found.cell.activity}")
        left = [f"- {fault}: {', '.join(_shortened(names))}: {why}." for (fault, why, _), names in out.items()]
        counted = {verdict: sum(found.verdict == verdict for found in ran) for verdict in _COLORS}
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counted.items() if count)
        parts = [f"Seed {self.seed}, {machine()}: {len(ran)} cells, {summary}.", table(_COLUMNS, rows)]
        return "\n\n".join([*parts, *(["Left out:", "\n".join(left)] if left else [])])


def _shortened(names: list[str]) -> list[str]:
    """A target that is left out during everything is named once."""
    targets = list(dict.fromkeys(name.partition(" during ")[0] for name in names))
    return [
        target if all(f"{target} during {activity}" in names for activity in ACTIVITIES) else name
        for target in targets
        for name in names
        if name.startswith(f"{target} during ")
        and (not all(f"{target} during {a}" in names for a in ACTIVITIES) or name.endswith(next(iter(ACTIVITIES))))
    ]


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
        found.cell.target, found.cell.fault, found.cell.activity, f"{found.struck:.1f} s", f"{found.fault_seconds:.1f} s",
        "; ".join(found.lost) or "nothing", found.differed or "nothing", str(found.refused or "none"), first,
        f"{found.done or 0:.1f} s", f"{found.calm:.1f} s", found.verdict,
    ]  # fmt: skip


def write_json(run: Run, file: Path) -> None:
    content = {"seed": run.seed, "machine": machine(), "found": [asdict(found) for found in run.found]}
    file.write_text(json.dumps(content, indent=1) + "\n")


def write_picture(run: Run, file: Path) -> None:
    """Draw a square a cell: its seconds until the first new success, and its verdict by the frame's color."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    figure, panels = plt.subplots(1, len(ACTIVITIES), figsize=(15, 4.2), sharey=True, layout="constrained")
    colors, norm = plt.get_cmap("YlGnBu"), mpl.colors.Normalize(0, 15)
    for panel, activity in zip(panels, ACTIVITIES, strict=True):
        for row, target in enumerate(TARGETS):
            for column, fault in enumerate(FAULTS):
                cell = [
                    f for f in run.found if (f.cell.target, f.cell.fault, f.cell.activity) == (target, fault, activity)
                ]
                ran = [f for f in cell if f.verdict != "left out"]
                seconds = statistics.median([_recovery(f) for f in ran]) if ran else None
                worst = next((v for v in ("BROKEN", "missed", "refused") if any(f.verdict == v for f in ran)), "")
                face = "#f0f0f0" if seconds is None else colors(norm(seconds))
                panel.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor="white", linewidth=2))
                if worst:
                    inner = Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, linewidth=2)
                    inner.set_edgecolor(_COLORS[worst])
                    panel.add_patch(inner)
                text = "–" if seconds is None else f"{seconds:.1f}"
                dark = seconds is not None and seconds > 8
                panel.text(
                    column + 0.5, row + 0.5, text, ha="center", va="center", color="white" if dark else "#222222"
                )
        panel.set(xlim=(0, len(FAULTS)), ylim=(len(TARGETS), 0), title=f"during {activity}")
        panel.set_xticks([place + 0.5 for place in range(len(FAULTS))], FAULTS, rotation=35, ha="right")
        panel.set_yticks([place + 0.5 for place in range(len(TARGETS))], TARGETS)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
    shown = mpl.cm.ScalarMappable(norm, colors)
    figure.colorbar(shown, ax=panels, label="seconds from the fault's end\nto the first new success", extend="max")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _recovery(found: Found) -> float:
    """Nothing new was to be had where the activity was done before the fault was over."""
    return found.first_success if found.first_success is not None else 0.0
