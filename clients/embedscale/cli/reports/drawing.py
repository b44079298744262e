"""How charts look, and the forms that they are written in."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

INK, MUTED, GRID = "#1b1f24", "#59636f", "#d5dae0"
SERIES = ("#0b62b8", "#b54708", "#1a7f4b", "#8a3ab9", "#a3324f", "#4d5d6c")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---", "++")
WIDTH = 4.6
"""Inches. Narrow, so that text is legible where the picture is as wide as a phone."""
_DPI = 200
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--series-{place}" for place, colour in enumerate(SERIES, 1)
}
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": GRID,
    "hatch.color": INK,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "embedscale",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Chart:
    """A drawing with what it is called and what it shows, for those who do not see it."""

    name: str
    title: str
    description: str
    figure: Figure

    def inline(self) -> Markup:
        """SVG for a page that defines the colours as CSS variables; its ids are no other chart's."""
        svg = self._written("svg", transparent=True).decode()
        svg = svg[svg.index("<svg") :]
        for colour, variable in _VARIABLES.items():
            svg = svg.replace(colour, f"var({variable})")
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", svg)
        svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
        named = f'<svg role="img" aria-labelledby="{self.name}-title {self.name}-description"'
        about = (
            f'<title id="{self.name}-title">{escape(self.title)}</title>'
            f'<desc id="{self.name}-description">{escape(self.description)}</desc>'
        )
        svg = svg.replace("<svg", named, 1)
        head, end, rest = svg.partition(">")
        return Markup(head + end + about + rest)  # noqa: S704 — matplotlib escapes what it writes

    def save(self, folder: Path) -> None:
        """Write a PNG and an SVG file on white."""
        for kind in ("png", "svg"):
            (folder / f"{self.name}.{kind}").write_bytes(self._written(kind, transparent=False))

    def _written(self, kind: str, *, transparent: bool) -> bytes:
        buffer = io.BytesIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else {"Software": None}
        with style(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a browser has it
            self.figure.savefig(buffer, format=kind, dpi=_DPI, transparent=transparent, metadata=metadata)
        return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of reports, without changing that of anybody else."""
    with mpl.rc_context(_STYLE):
        yield


def canvas(height: float, panels: int = 1, *, same_x: bool = False) -> tuple[Figure, list[Axes]]:
    """Panels one below the other, `height` inches in all."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(panels, squeeze=False, sharex=same_x)[:, 0])


def log_scale(axes: Axes) -> None:
    """Make x logarithmic, with figures at powers of ten and between them."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend(figure: Figure) -> None:
    """Names above the drawing, one below the other, each once."""
    named = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=1)


def shortened(text: str, most: int = 24) -> str:
    """Text that fits beside an axis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
