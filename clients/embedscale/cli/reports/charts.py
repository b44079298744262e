"""The charts of a report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from embedscale.cli.reports import drawing, views
from embedscale.cli.reports.drawing import HATCHES, INK, MARKERS, SERIES, Chart, canvas, legend, log_scale, shortened
from embedscale.cli.reports.pareto import Point, points

Data = Mapping[str, Any]

_ROW = 0.27
_FRAME = 0.95


def charts(report: Data) -> dict[str, Chart]:
    """Every chart that there are numbers for, by name."""
    models = views.labels(report)
    with drawing.style():
        return {chart.name: chart for chart in _drawn(report, models) if chart}


def _drawn(report: Data, models: Sequence[str]) -> Iterator[Chart | None]:
    metric, datasets = views.metric_name(report["metric"]), report["datasets"]
    yield _quality(datasets, models, metric)
    yield _tradeoff(points(datasets), datasets, models, metric)
    yield _sizes(views.sizes(report), models, metric)
    tokens = {(row["title"], row["label"]): row["tokens_per_text"] for row in views.tokens(report)}
    yield _bars(tokens, models, "tokens", "Tokens a text", "tokens a text, documents and queries", "{:.0f}")
    cut = {(row["title"], row["label"]): 100 * row["cut_share"] for row in views.truncation(report) if row["counted"]}
    yield _bars(cut, models, "truncation", "What is cut", "% of the documents' tokens beyond the maximum", "{:.1f} %")


def _quality(datasets: Sequence[Data], models: Sequence[str], metric: str) -> Chart:
    count = sum(len(one["evaluations"]) for one in datasets)
    figure, (axes,) = canvas(_FRAME + 0.2 * len(models) + _ROW * count + 0.12 * len(datasets))
    places, y = {}, 0.0
    for dataset in datasets:
        top = y
        for one in dataset["evaluations"]:
            score = one["score"]
            reach = [[max(score["value"] - score["lower"], 0)], [max(score["upper"] - score["value"], 0)]]
            axes.errorbar(score["value"], y, xerr=reach, capsize=3, **_look(one["label"], models))
            y += 1
        places[(top + y - 1) / 2] = shortened(dataset["title"])
        y += 0.6
    axes.set_yticks(list(places), list(places.values()))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=f"{metric}; lines are 95 % intervals")
    axes.xaxis.grid(visible=True)
    axes.set_axisbelow(True)
    legend(figure)
    return Chart("quality", f"{metric} by data set and model", _scores_in_words(datasets), figure)


def _tradeoff(found: Sequence[Point], datasets: Sequence[Data], models: Sequence[str], metric: str) -> Chart | None:
    timed = [one for one in found if one.seconds_per_thousand]
    if not timed:
        return None
    priced = any(one.dollars_per_million for one in timed)
    figure, panels = canvas(_FRAME + 2.1 * (1 + priced) + 0.2 * len(models), 1 + priced)
    by_time = [(one, one.seconds_per_thousand, one.best_by_time) for one in timed]
    _front(panels[0], by_time, datasets, models)
    log_scale(panels[0])
    panels[0].set(xlabel="seconds for 1,000 texts (left is faster)", ylabel=f"mean {metric}")
    if priced:
        by_cost = [(one, one.dollars_per_million, one.best_by_cost) for one in timed]
        _front(panels[1], by_cost, datasets, models)
        panels[1].set(xlabel="US dollars for a million texts", ylabel=f"mean {metric}")
    legend(figure)
    words = "; ".join(f"{p.label}: {p.score:.4f} at {p.seconds_per_thousand:.1f} s for 1,000 texts" for p in timed)
    return Chart("tradeoff", f"{metric} against time and cost", words, figure)


def _front(
    axes: Axes, placed: Sequence[tuple[Point, float, bool]], datasets: Sequence[Data], models: Sequence[str]
) -> None:
    for one, x, _ in placed:
        look = _look(one.label, models)
        each = [e["score"]["value"] for d in datasets for e in d["evaluations"] if e["label"] == one.label]
        axes.plot([x] * len(each), each, marker="_", linestyle="none", color=look["color"], markersize=9)
        axes.plot(x, one.score, **look | {"markersize": 9})
    front = sorted((x, one.score) for one, x, best in placed if best)
    axes.plot(
        *zip(*front, strict=True),
        linestyle="--",
        linewidth=1,
        color=INK,
        drawstyle="steps-post",
        label="nothing better for less",
    )
    axes.set_ylim(0, 1)
    axes.margins(x=0.25)
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def _sizes(everything: Sequence[Data], models: Sequence[str], metric: str) -> Chart | None:
    tried = {row["title"] for row in everything if row["bytes"] != everything[0]["bytes"]}
    rows = [row for row in everything if row["title"] in tried]
    if not rows:
        return None
    titles = list(dict.fromkeys(row["title"] for row in rows))
    ways = list(dict.fromkeys((row["label"], row["way"]) for row in rows))
    figure, panels = canvas(_FRAME + 1.7 * len(titles) + 0.2 * len(ways), len(titles), same_x=True)
    kinds = list(dict.fromkeys(way for _, way in ways))
    for axes, title in zip(panels, titles, strict=True):
        for label, way in ways:
            found = sorted(
                (r["bytes"], r["value"]) for r in rows if (r["title"], r["label"], r["way"]) == (title, label, way)
            )
            look = _look(label, models) | {"marker": MARKERS[kinds.index(way) % len(MARKERS)], "linestyle": "-"}
            if found:
                axes.plot(*zip(*found, strict=True), **look | {"label": f"{label}, {way}", "linewidth": 1})
        axes.set_title(shortened(title, 40), loc="left", fontsize=9.5)
        log_scale(axes)
        axes.set(ylabel=metric)
        axes.set_ylim(0, 1)
        axes.margins(x=0.15)
        axes.grid(visible=True)
        axes.set_axisbelow(True)
    panels[-1].set_xlabel("bytes a vector")
    legend(figure)
    words = "; ".join(
        f"{r['title']}, {r['label']}, {r['way']}: {r['value']:.4f} at {r['bytes']:.0f} bytes" for r in rows
    )
    return Chart("sizes", f"{metric} against bytes a vector", words, figure)


def _bars(
    values: Mapping[tuple[str, str], float], models: Sequence[str], name: str, title: str, axis: str, form: str
) -> Chart | None:
    """Grouped bars by (data set, model)."""
    if not any(values.values()):
        return None
    titles = list(dict.fromkeys(where for where, _ in values))
    figure, (axes,) = canvas(_FRAME + 0.2 * len(models) + _ROW * len(values) + 0.12 * len(titles))
    places, y = {}, 0.0
    for where in titles:
        top = y
        for label in (label for there, label in values if there == where):
            look = _look(label, models)
            bars = axes.barh(y, values[where, label], 0.86, label=label, color=look["color"], alpha=0.75,
                             hatch=HATCHES[models.index(label) % len(HATCHES)])  # fmt: skip
            axes.bar_label(bars, [form.format(values[where, label])], padding=3)
            y += 1
        places[(top + y - 1) / 2] = shortened(where)
        y += 0.6
    axes.set_yticks(list(places), list(places.values()))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.set(xlabel=axis)
    legend(figure)
    words = "; ".join(f"{where}, {label}: {form.format(value)}" for (where, label), value in values.items())
    return Chart(name, title, words, figure)


def _look(label: str, models: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a model, the same in all charts."""
    place = models.index(label)
    return {
        "label": label,
        "color": SERIES[place % len(SERIES)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": "none",
    }


def _scores_in_words(datasets: Sequence[Data]) -> str:
    return "; ".join(
        "{}, {}: {value:.4f}, 95 % interval {lower:.3f} to {upper:.3f}".format(d["title"], e["label"], **e["score"])
        for d in datasets
        for e in d["evaluations"]
    )
