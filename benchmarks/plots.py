"""Draws the kept results, from their files alone: what was measured, and how far each goal is exceeded or missed.

    python -m benchmarks.plots [NAME ...]

A dot is the median of the rounds, a line through it their range. `docs/images/benchmarks/NAME.png`.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.common import OURS, ROOT, Goal, Runs, median
from benchmarks.results import RESULTS, Result, goals, kept

PICTURES = ROOT / "docs" / "images" / "benchmarks"
INK, MUTED, GRID, MET, MISSED = "#1b1f24", "#59636f", "#d5dae0", "#1a7f4b", "#b42318"
COLOURS = ("#0b62b8", "#b54708", "#8a3ab9", "#1a7f4b", "#a3324f", "#4d5d6c")
MARKERS = "osD^vP"
STYLE = {
    "font.size": 9, "axes.edgecolor": GRID, "axes.labelcolor": INK, "axes.spines.right": False,
    "axes.spines.top": False, "grid.color": GRID, "legend.frameon": False, "legend.fontsize": 8, "text.color": INK,
    "xtick.color": MUTED, "ytick.color": INK, "ytick.left": False, "text.parse_math": False,
}  # fmt: skip
NUMBERS = FuncFormatter(lambda value, _: f"{value:,.12g}")
LOGARITHMIC_FROM = 20
"""From this ratio of the greatest to the least on, an axis is logarithmic."""


def draw(result: Result, folder: Path) -> Path:
    """Draw a result; the picture's file."""
    found = list(goals(result).values())
    panels = list(result["figures"].items())
    heights = [1 + 0.35 * len(groups) + 0.2 * len(_contenders(groups)) for _, groups in panels]
    heights += [1 + 0.38 * len(found)] if found else []
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(heights), figsize=(9, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
        )
        for place, (quantity, groups) in zip(axes[:, 0], panels, strict=False):
            draw_figures(place, quantity, groups)
        if found:
            draw_goals(axes[-1, 0], found)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{result['name']}.png"
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)
    return path


def draw_figures(axes: Axes, quantity: str, groups: Mapping[str, Mapping[str, Runs]]) -> None:
    """Draw who measured what: a row of the axis for each thing done, a colour for each contender."""
    for number, name in enumerate(_contenders(groups)):
        rows = [(row + _offset(group, name), group[name]) for row, group in enumerate(groups.values()) if name in group]
        _dots(axes, rows, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], name)
    values = [value for group in groups.values() for runs in group.values() for value in runs]
    if min(values) > 0 and max(values) > LOGARITHMIC_FROM * min(values):
        _logarithmic(axes)
    else:
        axes.xaxis.set_major_formatter(NUMBERS)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        if min(values) >= 0:
            axes.set_xlim(0, 1.05 * max(*values, 1e-9))
    _rows(axes, list(groups))
    axes.set_xlabel(quantity)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def draw_goals(axes: Axes, found: Sequence[Goal]) -> None:
    """Draw each ratio as so many times its goal, so that better is to the right and the goal is one line."""
    for met, colour, marker in ((True, MET, "o"), (False, MISSED, "X")):
        rows = [
            (row, [_times(goal, ratio) for ratio in goal.runs or [goal.value]])
            for row, goal in enumerate(found)
            if goal.met is met
        ]
        _dots(axes, rows, colour, marker, "met" if met else "missed")
    axes.axvline(1, color=INK, linewidth=1, label="goal")
    _logarithmic(axes, at_least=(0.4, 2.5))
    _rows(axes, [goal.what for goal in found])
    for row, goal in enumerate(found):
        said = f"{goal.cells[3]}, goal {goal.cells[4]}"
        axes.text(1.02, row, said, transform=axes.get_yaxis_transform(), verticalalignment="center")
    axes.set_xlabel("ratio, as so many times its goal; better to the right")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _times(goal: Goal, ratio: float) -> float:
    if not goal.at_most:
        return max(ratio / goal.goal, 0.01)
    return min(goal.goal / ratio, 100) if ratio > 0 else 100


def _offset(group: Mapping[str, Runs], name: str) -> float:
    order = _contenders({"": group})
    return (order.index(name) - (len(order) - 1) / 2) * 0.5 / len(order)


def _contenders(groups: Mapping[str, Mapping[str, Runs]]) -> list[str]:
    names = dict.fromkeys(name for group in groups.values() for name in group)
    return sorted(names, key=lambda name: name != OURS)


def _dots(axes: Axes, rows: Sequence[tuple[float, Runs]], colour: str, marker: str = "o", name: str = "") -> None:
    if not rows:
        return
    middles = [median(runs) for _, runs in rows]
    ranges = [
        [middle - min(runs) for middle, (_, runs) in zip(middles, rows, strict=True)],
        [max(runs) - middle for middle, (_, runs) in zip(middles, rows, strict=True)],
    ]
    places = [place for place, _ in rows]
    axes.errorbar(middles, places, xerr=ranges, fmt=marker, color=colour, markersize=5, capsize=2, label=name or None)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [fill(name, 44) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _logarithmic(axes: Axes, at_least: tuple[float, float] = (math.inf, 0)) -> None:
    axes.set_xscale("log")
    low, high = min(axes.get_xlim()[0], at_least[0]), max(axes.get_xlim()[1], at_least[1])
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,), numticks=12))
    axes.xaxis.set_major_formatter(NUMBERS)
    axes.xaxis.set_minor_formatter(NullFormatter())


def described(result: Result) -> str:
    """What a picture shows, for those who do not see it."""
    quantities = "; ".join(result["figures"])
    return f"Benchmark {result['name']}: {quantities}{'; and its ratios beside their goals' if result['goals'] else ''}"


def main() -> None:
    """Draw the named results, or all that are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which; all that are kept by default")
    for name in parser.parse_args().names or sorted(path.stem for path in RESULTS.glob("*.json")):
        result = kept(name)
        if result is None:
            raise SystemExit(f"no result of {name} is kept")
        print(draw(result, PICTURES))


if __name__ == "__main__":
    main()
