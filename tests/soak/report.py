"""What a run found: the table with verdicts, JSON, and the picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

from benchmarks.__main__ import written
from benchmarks.common import ROOT, machine, table
from tests.soak.flatness import WARM_UP, Judged, Verdict, judged
from tests.soak.sampling import Series

_PAGE = ROOT / "docs" / "soak.md"
_PICTURE = ROOT / "docs" / "images" / "soak.png"
_HEADERS = ("what", "level", "growth", "allowed", "verdict")
_PANELS = {
    "Memory, MiB": ("memory, MiB", "data, MiB"),
    "File descriptors": ("file descriptors", "clients"),
    "Threads": ("threads",),
    "Latency of Embed, ms": ("p50, ms", "p99, ms"),
}


@dataclass
class Outcome:
    """Everything that a run found."""

    seed: int
    requests: int
    done: int
    failed: int
    seconds: float
    compared: int
    """Values held against the first answer for the same text."""
    counts: dict[str, int]
    failures: list[str]
    complaints: list[str]
    """What servers logged and never should."""
    busy: dict[str, float]
    """Gauges of work under way that did not return to zero."""
    series: list[Series]
    machine: str = field(default_factory=lambda: str(machine()))

    @property
    def judgements(self) -> list[tuple[Series, Judged]]:
        return [(one, judged(one.done, one.values, one.rule)) for one in self.series]

    @property
    def passed(self) -> bool:
        grows = any(found.verdict is Verdict.GROWS for _, found in self.judgements)
        return not (self.failed or self.complaints or self.busy or grows)

    @property
    def rows(self) -> list[list[str]]:
        rows = []
        for one, found in self.judgements:
            growth = f"{found.share:+.1%}" if found.rule.relative else f"{found.share:+.2f}"
            rows.append([f"{one.who}: {one.what}", f"{found.level:,.1f}", growth, str(found.rule), found.verdict.value])
        return rows

    @property
    def markdown(self) -> str:
        """The table, and a line on each thing that is wrong."""
        wrong = [
            *self.failures,
            *self.complaints[:20],
            *(f"not idle: {name} is {value:g}" for name, value in self.busy.items()),
        ]
        head = (
            f"Seed {self.seed}: {self.done:,} of {self.requests:,} requests in {self.seconds:,.0f} s, "
            f"{self.done / max(self.seconds, 1e-9):,.0f} a second; {self.failed:,} wrong; "
            f"{self.compared:,} values equal to the first answer's."
        )
        return "\n\n".join([head, table(_HEADERS, self.rows), *wrong, f"Machine: {self.machine}."])

    @property
    def json(self) -> dict[str, object]:
        series = [
            {"of": one.who, "what": one.what, "level": found.level, "growth": found.growth, "allowed": str(found.rule),
             "verdict": found.verdict.value, "done": one.done, "values": one.values}
            for one, found in self.judgements
        ]  # fmt: skip
        return {key: value for key, value in vars(self).items() if key != "series"} | {
            "passed": self.passed,
            "series": series,
        }


def document(outcome: Outcome) -> None:
    """Write the table and the picture into the documentation."""
    _PAGE.write_text(written(_PAGE.read_text("utf-8"), "soak", outcome.markdown), "utf-8")
    plot(outcome, _PICTURE)


def plot(outcome: Outcome, path: Path) -> None:
    """Draw all series over the requests that were done."""
    figure, axes = plt.subplots(2, 2, figsize=(14, 7), layout="constrained", sharex=True)
    for axis, (title, kinds) in zip(axes.flat, _PANELS.items(), strict=True):
        for one in outcome.series:
            if one.what in kinds:
                axis.plot(one.done, one.values, label=_label(one, kinds), linewidth=1)
        axis.axvspan(0, WARM_UP * outcome.done, color="0.93", zorder=0)
        axis.set_title(title)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    for axis in axes[1]:
        axis.set_xlabel("requests done")
        axis.locator_params(axis="x", nbins=5)
        axis.xaxis.set_major_formatter("{x:,.0f}")
    figure.suptitle(f"{outcome.done:,} requests, seed {outcome.seed}; what is shaded is the warm-up")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _label(one: Series, kinds: Sequence[str]) -> str:
    if one.who == "Embed":
        return one.what.removesuffix(", ms")
    return one.who if one.what == kinds[0] else f"{one.who}, {one.what.removesuffix(', MiB')}"
