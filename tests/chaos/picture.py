"""The matrix as a picture: how long each cell took to recover."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.chaos.activities import ACTIVITIES
from tests.chaos.cluster import TARGETS
from tests.chaos.faults import FAULTS
from tests.chaos.matrix import Found

_MOST_SECONDS = 30.0
_DARK = 0.55
"""Share of the scale above which writing on a cell is white."""


def write_picture(found: Sequence[Found], file: Path) -> None:
    """Draw a heat map for each activity, and write it as a PNG."""
    figure, panels = plt.subplots(1, len(ACTIVITIES), figsize=(15, 4.4), sharey=True, layout="constrained")
    for panel, activity in zip(panels, ACTIVITIES, strict=True):
        shown = _panel(panel, [one for one in found if one.cell.activity == activity])
        panel.set_title(f"during {activity}")
    label = "seconds from the end of the fault\nto the first new success"
    figure.colorbar(shown, ax=panels, label=label, extend="max")
    figure.supxlabel(
        "broken in red, refused and then repeated in orange, empty where there is no such cell", fontsize=9
    )
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _panel(panel: Any, found: Sequence[Found]) -> Any:
    seconds = np.full((len(TARGETS), len(FAULTS)), np.nan)
    panel.set_facecolor("#eeeeee")
    for row, target in enumerate(TARGETS):
        for column, fault in enumerate(FAULTS):
            ran = [one for one in found if (one.cell.target, one.cell.fault) == (target, fault) and _ran(one)]
            if ran:
                seconds[row, column] = np.median([_recovery(one) for one in ran])
                _write(panel, column, row, seconds[row, column], {one.verdict for one in ran})
    panel.set_xticks(range(len(FAULTS)), FAULTS, rotation=35, ha="right")
    panel.set_yticks(range(len(TARGETS)), TARGETS)
    return panel.imshow(seconds, cmap="YlGnBu", vmin=0, vmax=_MOST_SECONDS, aspect="auto")


def _write(panel: Any, column: int, row: int, seconds: float, verdicts: set[str]) -> None:
    color = "white" if seconds > _DARK * _MOST_SECONDS else "#222222"
    frame = "#c62828" if "BROKEN" in verdicts else "#e68a00" if "refused" in verdicts else ""
    box = {"boxstyle": "round", "facecolor": "none", "edgecolor": frame, "linewidth": 2} if frame else None
    panel.text(column, row, f"{seconds:.1f}", ha="center", va="center", color=color, bbox=box)


def _ran(found: Found) -> bool:
    return found.verdict not in ("left out", "missed")


def _recovery(found: Found) -> float:
    """Seconds until something new came, if only the end; nothing where all was done before the fault was over."""
    return found.first_success if found.first_success is not None else found.done or 0.0
