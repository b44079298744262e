"""The page: data and charts put into the template."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from embedscale.cli.reports import views
from embedscale.cli.reports.drawing import Chart
from embedscale.cli.reports.pareto import points

_FOLDER = Path(__file__).parent


def page(report: Mapping[str, Any], charts: Mapping[str, Chart]) -> str:
    """HTML that needs nothing from anywhere. Texts of data sets are escaped, in markup and in the embedded JSON."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(exact=_exact, scored=_scored)
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        metric=views.metric_name(report["metric"]),
        charts={name: chart.inline() for name, chart in charts.items()},
        css=Markup((_FOLDER / "report.css").read_text("utf-8")),  # noqa: S704 — our own file
        data=_embedded(report),
        points=points(report["datasets"]),
        sizes=views.sizes(report),
        tokens=views.tokens(report),
        truncation=views.truncation(report),
        commands=views.commands(report),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("embedscale"),
    )


def _embedded(report: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the element it is in: characters of markup are written as \\u escapes."""
    written = json.dumps(report, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)  # noqa: S704 — escaped above


def _exact(value: float, form: str = "{:.4f}") -> Markup:
    """A number as people read it, with all its digits beside it for scripts."""
    return Markup('<data value="{}">{}</data>').format(value, form.format(value))


def _scored(score: Mapping[str, Any]) -> Markup:
    """A score with its interval."""
    ends = (_exact(score[name], "{:.3f}") for name in ("lower", "upper"))
    return Markup('{} <span class="interval">[{}, {}]</span>').format(_exact(score["value"]), *ends)
